"""The routes with which a vLLM 0.32 lets itself be changed while it runs, and its words, as read from its source."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

LORA = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter")
BASE = "tiny-qwen3"


class FakeVllm:
    """Adapters by name in ``loras``; ``routes`` are those that it has."""

    def __init__(self, key: str = "", routes: tuple[str, ...] = (*LORA, "/reset_prefix_cache")) -> None:
        self.key, self.routes = key, routes
        self.loras: dict[str, str] = {}
        self.held = False
        """Blocks of the prefix cache are held by requests in flight."""
        self.bare = False
        """It answers a reset without a body, as before 0.26."""
        self.resets = 0
        self.keys: list[str] = []
        """What each request had as its key."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: two would wait for an acknowledgement in between
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: object) -> None:
                pass

            def answer(self, status: int, document: Any) -> None:
                data = b"" if document is None else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                self.answer(*fake.get(self.path, self.headers.get("Authorization", "")))

            def do_POST(self) -> None:
                size = int(self.headers.get("Content-Length", "0"))
                data = self.rfile.read(size)
                if len(data) < size:  # who asked has died in the middle
                    self.close_connection = True
                    return
                self.answer(*fake.post(self.path, json.loads(data or b"{}"), self.headers.get("Authorization", "")))

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _denied(self, path: str, given: str) -> bool:
        self.keys.append(given)
        return bool(self.key and path.startswith("/v1") and given != f"Bearer {self.key}")

    def get(self, path: str, given: str) -> tuple[int, Any]:
        if self._denied(path, given):
            return 401, {"error": "Unauthorized"}
        if path in self.routes:
            return 405, {"detail": "Method Not Allowed"}
        if path == "/v1/models":
            cards = [{"id": BASE, "root": "/models/tiny", "parent": None}]
            cards += [{"id": name, "root": root, "parent": BASE} for name, root in sorted(self.loras.items())]
            return 200, {"object": "list", "data": cards}
        return 404, {"detail": "Not Found"}

    def post(self, path: str, asked: dict[str, Any], given: str) -> tuple[int, Any]:
        if self._denied(path, given):
            return 401, {"error": "Unauthorized"}
        if path not in self.routes:
            return 404, {"detail": "Not Found"}
        if path == "/reset_prefix_cache":
            self.resets += not self.held
            return 200, None if self.bare else {"success": not self.held}
        name = asked["lora_name"]
        if path == LORA[0]:
            if name in self.loras:
                return _refused(400, f"The lora adapter '{name}' has already been loaded.")
            if asked["lora_path"].startswith("/nowhere"):
                return _refused(404, f"Loading lora {name} failed: No adapter found for {asked['lora_path']}")
            self.loras[name] = asked["lora_path"]
            return 200, f"Success: LoRA adapter '{name}' added successfully."
        if self.loras.pop(name, None) is None:
            return _refused(404, f"The lora adapter '{name}' cannot be found.")
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _refused(status: int, message: str) -> tuple[int, Any]:
    return status, {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}}
