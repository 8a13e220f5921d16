"""``python -m qtop`` is the command ``qtop``."""

from qtop.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
