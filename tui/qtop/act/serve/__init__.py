"""``qtop serve``: a server that qtop runs. ``supervisor`` runs it, ``control`` is how others ask for something."""
