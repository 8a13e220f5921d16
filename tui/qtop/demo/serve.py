"""The demo server: ``python -m qtop.demo.serve --model FILE --port N`` runs llama.cpp's HTTP server, until stdin closes
if that is a pipe.

Standard output gets one line when it listens. Its options are spelt as llama-server's and the command line names the
port, so that it is found and read as one.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
import threading
from pathlib import Path

EXIT_NO_WHEEL = 4
"""xllamacpp is not installed."""
EXIT_NOT_STARTED = 5
"""llama.cpp refused: the port is taken, or the model cannot be loaded; its log says which."""
_LOG_ERRORS_ONLY = 1
CACHE_MIB = 256
"""llama.cpp's own default, 8 GiB, is filled at 2 MB a second."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m qtop.demo.serve", description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="a GGUF file")
    parser.add_argument("--port", required=True, type=int, help="listen on this port of 127.0.0.1")
    parser.add_argument("--threads", type=int, help="compute threads (default: llama.cpp's choice)")
    parser.add_argument("--parallel", type=int, default=4, help="requests served at once (default 4)")
    parser.add_argument(
        "--ctx-size", "--ctx", type=int, default=8192, help="context of all slots in tokens (default 8192)"
    )
    parser.add_argument(
        "--cache-ram", type=int, default=CACHE_MIB, help=f"MiB for prompts of earlier requests (default {CACHE_MIB})"
    )
    parser.add_argument("--no-mmap", action="store_true", help="read the model into memory of its own")
    parser.add_argument("--alias", help="the model's name in answers (default: the file's)")
    parser.add_argument(
        "--log", default=os.devnull, help="append the log to this file; - keeps standard error (default: none)"
    )
    return parser.parse_args()


def _end_with_stdin() -> None:
    """Ends this process when standard input closes, which it does however the parent dies."""
    while True:
        try:
            if not os.read(0, 4096):
                break
        except OSError:
            break
    os._exit(0)


def _redirect(log: str) -> None:
    """Points the descriptors 1 and 2 at ``log``: llama.cpp writes to them past Python's own streams."""
    if log == "-":
        os.dup2(2, 1)
        return
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)


def main() -> int:
    """Serves until standard input closes or a signal ends it; the exit status says what kept it from starting."""
    options = _arguments()
    if stat.S_ISFIFO(os.fstat(0).st_mode) or stat.S_ISSOCK(os.fstat(0).st_mode):
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        import xllamacpp
    except ImportError as error:
        print(f"xllamacpp cannot be imported: {error}", file=sys.stderr)
        return EXIT_NO_WHEEL
    listening = os.fdopen(os.dup(1), "w")
    try:
        _redirect(options.log)
    except OSError as error:
        print(f"{options.log} cannot be written: {error.strerror}", file=sys.stderr)
        return EXIT_NOT_STARTED

    params = xllamacpp.CommonParams()
    params.model.path = str(options.model)
    params.model_alias = {options.alias or options.model.stem}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_parallel = options.parallel
    params.n_ctx = options.ctx_size
    params.endpoint_metrics = params.endpoint_slots = params.endpoint_props = True
    params.cache_ram_mib = options.cache_ram
    params.verbosity = _LOG_ERRORS_ONLY
    if options.no_mmap:
        params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    if options.threads is not None:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    try:
        server = xllamacpp.Server(params)  # loads the model and listens; holds the GIL until it does (0.6 s for 100 MB)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return EXIT_NOT_STARTED
    try:
        with listening:
            listening.write(f"listening on {server.listening_address}\n")
        threading.Event().wait()
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    return 0


if __name__ == "__main__":
    # Past the interpreter's own exit: a thread sits in read() on stdin, and llama.cpp's threads need no farewell.
    code = main()
    sys.stderr.flush()
    os._exit(code)
