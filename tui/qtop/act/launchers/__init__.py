"""Launchers: how a server was started, and how to start it anew with other words. One file each; ``find`` chooses."""
