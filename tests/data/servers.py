"""A web server on the loopback interface whose answers a test decides."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, bytes, int | None]
"""Status, body, and a Content-Length to claim instead of the true one."""


class Mirror:
    """Addresses and the requests seen."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.seen: list[str] = []


@contextlib.contextmanager
def serve(answers: dict[str, Answer]) -> Iterator[Mirror]:
    """Serve answers by path; anything else is 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mirror.seen.append(self.path)
            status, body, claimed = answers.get(self.path, (404, b"no such file", None))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if claimed is None else claimed))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    mirror = Mirror(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
