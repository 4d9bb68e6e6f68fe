"""An S3 server for a test: moto's, on a free port of this machine."""

import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "tape-staging"
_KEY = "AKIAIOSFODNN7EXAMPLE"
_SECRET = "wJalrXUtnFEMI"


class ObjectStore:
    """A running S3 server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.environment: Mapping[str, str] = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        """What a program that uses it has in its environment."""
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id=_KEY,
            aws_secret_access_key=_SECRET,
            region_name="us-east-1",
        )

    def make_bucket(self, name: str = BUCKET) -> str:
        """Make a bucket and return its URI."""
        self.client.create_bucket(Bucket=name)
        return f"s3://{name}"

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Know no credentials, for as long as this is entered."""
        before = self._allow(b"0")
        try:
            yield
        finally:
            self._allow(before)

    def _allow(self, requests: bytes) -> bytes:
        """Let so many requests through unchecked; return how many it was before."""
        order = urllib.request.Request(f"{self.url}/moto-api/reset-auth", requests, {"Content-Type": "text/plain"})
        with urllib.request.urlopen(order, timeout=10) as answer:
            return str(json.load(answer)["PREVIOUS_INITIAL_NO_AUTH_ACTION_COUNT"]).encode()


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Run an S3 server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield ObjectStore(f"http://{host}:{port}")
    finally:
        server.stop()
