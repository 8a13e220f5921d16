"""What llama-server is from outside, without a model: its flags, routes and the way it ends; up in a tenth of a second.

Copied to a file called llama-server it is taken for one. Standard library only, to be run with -S.

    --fail-with WHY    say so, as llama.cpp does, and end with status 1
    --stubborn         SIGTERM is ignored
    --linger SECONDS   it ends so long after SIGTERM
    --child            have a process of its own that goes on when this one ends
    --never-healthy    /health says 503 for ever
    --say FILE         what it writes to standard error first

Copied to a file called vllm it stands for ``vllm serve MODEL --config FILE``: of that file it takes max-num-seqs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama-server", allow_abbrev=False)
    parser.add_argument("-m", "--model", default="tiny.gguf")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("-np", "--parallel", type=int, default=4)
    parser.add_argument("-c", "--ctx-size", type=int, default=4096)
    parser.add_argument("-t", "--threads", type=int, default=1)
    parser.add_argument("--api-key")
    parser.add_argument("--config")
    parser.add_argument("words", nargs="*", help="of vllm: serve MODEL")
    parser.add_argument("--fail-with")
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--linger", type=float)
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--never-healthy", action="store_true")
    parser.add_argument("--say")
    return parser


class _Handler(BaseHTTPRequestHandler):
    options: argparse.Namespace

    def _send(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _allowed(self) -> bool:
        key = self.options.api_key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self._send(401, {"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}})
        return False

    def do_GET(self) -> None:
        if self.path == "/health":
            loading = self.options.never_healthy
            self._send(503 if loading else 200, {"error": {"code": 503}} if loading else {"status": "ok"})
        elif self.path == "/v1/models" and self._allowed():
            self._send(200, {"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": "llamacpp"}]})
        elif self.path == "/props" and self._allowed():
            self._send(200, {"total_slots": self.options.parallel, "model_path": self.options.model})
        elif self.path not in ("/v1/models", "/props"):
            self._send(404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/v1/completions" and self._allowed():
            self._send(200, {"object": "text_completion", "choices": [{"text": "!", "finish_reason": "length"}]})

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing of requests."""


def main() -> int:
    """Serves until a signal ends it."""
    options = _parser().parse_args()
    if options.fail_with:
        print(f"0.00.028.866 E llama_model_load: error loading model: {options.fail_with}")
        print("0.00.029.392 E srv    load_model: failed to load model, 'tiny.gguf'", flush=True)
        return 1
    if options.child:
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(120)"])
    if options.say:
        with open(options.say, encoding="utf-8") as file:  # noqa: PTH123 - pathlib takes as long as all the rest
            print(file.read(), end="", file=sys.stderr, flush=True)
    if options.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.config:
        with open(options.config, encoding="utf-8") as file:  # noqa: PTH123 - pathlib takes as long as all the rest
            options.parallel = int(re.findall(r"^max-num-seqs: *(\d+)", file.read(), re.MULTILINE)[0])
    if options.linger:
        signal.signal(signal.SIGTERM, lambda *_: threading.Timer(options.linger, os._exit, (0,)).start())
    _Handler.options = options
    try:
        server = ThreadingHTTPServer((options.host, options.port), _Handler)
    except OSError as error:
        print(
            f"0.00.001.000 E srv    start: couldn't bind HTTP server socket: {os.strerror(error.errno or 0)}",
            flush=True,
        )
        return 1
    print(f"listening on http://{options.host}:{options.port}", flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
