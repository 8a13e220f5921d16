"""Finding local LLM servers: candidates for a request, and the map from process to URL and back. No HTTP here."""

from qtop.collect.discover.bound import bound
from qtop.collect.discover.candidates import Candidate, candidates
from qtop.collect.discover.containers import in_container
from qtop.collect.discover.procfs import argv, start_ticks, started
from qtop.collect.discover.servers import NAMES
from qtop.collect.discover.starting import Starting, starting
from qtop.collect.discover.tree import server_root, server_tree
from qtop.collect.discover.where import is_local, pid_for_url, urls_for_pid

__all__ = [
    "NAMES",
    "Candidate",
    "Starting",
    "argv",
    "bound",
    "candidates",
    "in_container",
    "is_local",
    "pid_for_url",
    "server_root",
    "server_tree",
    "start_ticks",
    "started",
    "starting",
    "urls_for_pid",
]
