"""A way to an API server on which a group is hidden from who looks for kinds, while its objects can be had.

A real API server is so for some milliseconds after a CRD is established.
"""

import base64
import http.client
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from tests.control_plane.plane import Cluster, write_kubeconfig

_PASSED_ON = ("Authorization", "Accept", "Content-Type")
_PIECE_BYTES = 65536


@dataclass
class HiddenGroup:
    """A way on which a group is hidden."""

    kubeconfig: Path
    """Opens the cluster on it."""
    hidden: bool = True


@contextmanager
def hiding(cluster: Cluster, group: str, folder: Path) -> Iterator[HiddenGroup]:
    """Open such a way to a cluster.

    Args:
        cluster: where it leads to.
        group: the API group that it hides until told otherwise.
        folder: gets the kubeconfig.

    """
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    behind = config["clusters"][0]["cluster"]
    server = urlsplit(behind["server"])
    trust = ssl.create_default_context(cadata=base64.b64decode(behind["certificate-authority-data"]).decode())
    way = HiddenGroup(folder / "hiding.kubeconfig")

    class Handler(BaseHTTPRequestHandler):
        def pass_on(self) -> None:
            if way.hidden and self.path == f"/apis/{group}/v1":
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
            connection = http.client.HTTPSConnection(str(server.hostname), server.port, context=trust)
            try:
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                self.send_response(answer.status)
                self.send_header("Content-Type", str(answer.getheader("Content-Type")))
                self.end_headers()  # the answer lasts until the connection ends
                with suppress(ConnectionError):
                    while piece := answer.read1(_PIECE_BYTES):
                        self.wfile.write(piece)
            finally:
                connection.close()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on  # noqa: N815 - as the base class calls them

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{proxy.server_port}"
        write_kubeconfig(way.kubeconfig, {"server": address}, config["users"][0]["user"]["token"], "default")
        try:
            yield way
        finally:
            proxy.shutdown()
            thread.join()
