"""qtop: what holds a local LLM server back, in one line, and the remedy on one key."""

__version__ = "0.1.0"
