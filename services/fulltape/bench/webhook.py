"""A receiver of Alertmanager's webhooks that notes when each alert came."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self


class Notice(NamedTuple):
    """One alert of one notification."""

    at_us: int
    status: str
    """``firing`` or ``resolved``."""
    labels: dict[str, str]


class Webhook:
    """Listens on a free port of 127.0.0.1 while the context lasts; ``notices`` holds all that came."""

    def __init__(self) -> None:
        notices: list[Notice] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                at_us = time.time_ns() // 1000
                body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                notices.extend(Notice(at_us, alert["status"], alert["labels"]) for alert in body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's signature
                """Keep quiet."""

        self.notices = notices
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
