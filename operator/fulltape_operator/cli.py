"""`fulltape operator`: runs the operator, in a cluster or beside one."""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import click

from fulltape.telemetry import configure_logging
from fulltape_operator.platform import Platform, load_platform
from fulltape_operator.service import OperatorSettings, run_operator


@click.command("operator")
@click.option("--platform", type=click.Path(path_type=Path, dir_okay=False), help="What the cluster offers to feeds.")
@click.option("--namespace", "namespaces", multiple=True, help="Serve this namespace; may be repeated.  [default: all]")
@click.option("--host", default="127.0.0.1", envvar="FULLTAPE_HOST", show_default=True, help="Where to serve metrics.")
@click.option("--port", default=0, envvar="FULLTAPE_PORT", help="Port for metrics and probes; 0 takes a free one.")
def operator_command(*, platform: Path | None, namespaces: Sequence[str], host: str, port: int) -> None:
    """Make every CryptoFeed of a cluster come true, until SIGTERM."""
    configure_logging()
    logging.getLogger("kopf").setLevel(logging.WARNING)
    settings = OperatorSettings(
        platform=load_platform(platform) if platform else Platform(),
        namespaces=namespaces,
        lease_namespace=os.environ.get("POD_NAMESPACE") or "default",
        identity=os.environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}",
        host=host,
        port=port,
    )
    asyncio.run(run_operator(settings))
