"""The cluster of this machine: ``python -m tests.cluster up``, ``demo``, ``bench`` and ``down``.

Where Docker is it is kind's, elsewhere a node of this machine's own. With KUBECONFIG set nothing is made: ``demo``
fills the cluster that it names.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from fulltape.errors import ConfigurationError
from images.build import has_docker
from tests.cluster.build import ensure_node_programs
from tests.cluster.demo import fill
from tests.cluster.images import build_images, load_images
from tests.cluster.jobs import BOOTSTRAP_SERVERS, run_job
from tests.cluster.kind import Kind, ensure_kind
from tests.cluster.node import Node, check_machine, forget_lock, remove_node, running
from tests.control_plane.build import ensure_programs
from tests.control_plane.plane import Cluster, ControlPlaneError, KubectlError

STATE = Path("/run/fulltape-node.json")
"""What the process that holds the node tells of it, while it does."""
_LOG = Path("/var/log/fulltape-node.log")
_START_SECONDS = 120.0
_STOP_SECONDS = 60.0
_LOOK_SECONDS = 1.0


@click.group()
def main() -> None:
    """Make a Kubernetes of one node on this machine, fill it, and take it away."""


@main.command()
def up() -> None:
    """Start the cluster in the background; return once its node is ready."""
    if has_docker():
        Kind(ensure_kind()).start()
        _tell_how_to_use(ensure_programs())
        return
    check_machine()  # before what takes minutes
    programs = ensure_programs()
    ensure_node_programs()
    if running():
        _tell_how_to_use(programs)  # fails while that one starts or ends
        return
    started = time.monotonic()
    STATE.unlink(missing_ok=True)
    with _LOG.open("w") as log:
        holder = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster", "hold"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    while not STATE.exists():
        if holder.poll() is not None or time.monotonic() - started > _START_SECONDS:
            holder.terminate()
            raise ConfigurationError(f"the cluster did not start; {_LOG} ends with: {_LOG.read_text()[-2000:].strip()}")
        time.sleep(0.1)
    click.echo(f"ready after {time.monotonic() - started:.0f} s", err=True)
    _tell_how_to_use(programs)


@main.command(hidden=True)
def hold() -> None:
    """Hold the cluster in this process, starting anew what ends, until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with Node(ensure_programs(), ensure_node_programs()) as node:
            part = STATE.with_suffix(".part")
            part.write_text(
                json.dumps({"pid": os.getpid(), "kubeconfig": str(node.kubeconfig), "logs": str(node.logs)})
            )
            part.rename(STATE)
            while True:
                time.sleep(_LOOK_SECONDS)
                for name in node.revive():
                    click.echo(f"{name} had ended and was started anew; its log is {node.logs / name}.log")
    finally:
        STATE.unlink(missing_ok=True)


@main.command()
@click.option(
    "--rate", type=click.IntRange(1, 20_000), default=200, show_default=True, help="Trades/s of the exchange."
)
def demo(rate: int) -> None:
    """Fill the cluster with Kafka, a sandbox exchange, Alertmanager, Prometheus, Fulltape by Helm and a feed."""
    programs = ensure_programs()
    named = os.environ.get("KUBECONFIG")
    if named and named != _own_kubeconfig():  # `up` has its own one exported
        cluster = Cluster(Path(named), programs / "kubectl", Path.home() / ".kube")
        click.echo("this cluster's nodes must have the images already", err=True)
    else:
        cluster = _own_cluster(programs)
        names = build_images()
        if has_docker():
            Kind(ensure_kind()).load_images(names.values())
        else:
            load_images(names, ensure_node_programs())
    started = time.monotonic()
    fill(cluster, programs / "helm", rate)
    click.echo(f"the feed is ready after {time.monotonic() - started:.0f} s", err=True)
    _tell_how_to_use(programs)
    click.echo(
        "kubectl get cryptofeeds --all-namespaces\n"
        "kubectl port-forward --namespace=markets service/majors-dashboard 8080   # then open http://127.0.0.1:8080\n"
        "kubectl port-forward --namespace=data service/alertmanager 9093   # open http://127.0.0.1:9093\n"
        "kubectl port-forward --namespace=data service/prometheus 9090   # open http://127.0.0.1:9090"
    )


@main.command()
@click.option(
    "--warm-up",
    type=float,
    default=330.0,
    show_default=True,
    help="Seconds in which JVMs warm up; the second boundary comes after 330.",
)
@click.option("--seconds", type=float, default=600.0, show_default=True, help="Seconds that count.")
def bench(warm_up: float, seconds: float) -> None:
    """Measure the feed of ``demo``, from trade to window, by a pod beside Kafka; print the report as JSON."""
    programs = ensure_programs()
    cluster = _own_cluster(programs)
    command = ["fulltape", "bench", "feed", "majors", f"--bootstrap-servers={BOOTSTRAP_SERVERS}", "--json"]
    command += [f"--warm-up={warm_up}", f"--seconds={seconds}"]
    # Else what is measured is how long the measuring itself waits for a core.
    said = run_job(cluster, {"bench": command}, patience_seconds=warm_up + seconds + 120, cpu="100m")
    click.echo(said["bench"].splitlines()[-1])


@main.command()
def down() -> None:
    """Stop the cluster and delete all that it made on this machine."""
    if has_docker():
        Kind(ensure_kind()).delete()
        return
    check_machine()
    if running() and STATE.exists():
        holder = int(_state()["pid"])
        os.kill(holder, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while (running() or Path(f"/proc/{holder}").exists()) and time.monotonic() < deadline:
            time.sleep(0.1)
    if running():
        raise ConfigurationError("another process holds this machine's node, as make e2e does; end that one")
    remove_node()  # what a crash left
    forget_lock()
    for left in (STATE, _LOG):
        left.unlink(missing_ok=True)


def _state() -> dict[str, str]:
    try:
        return dict(json.loads(STATE.read_text()))
    except FileNotFoundError:
        raise ConfigurationError(
            "no cluster runs here; start one with make cluster, or name one by KUBECONFIG"
        ) from None


def _own_kubeconfig() -> str:
    """Return what opens this machine's cluster, or would."""
    if has_docker():
        return str(Kind.kubeconfig)
    return _state()["kubeconfig"] if STATE.exists() else ""


def _own_cluster(programs: Path) -> Cluster:
    if has_docker():
        return Cluster(Kind.kubeconfig, programs / "kubectl", Kind.kubeconfig.parent)
    return Cluster(Path(_state()["kubeconfig"]), programs / "kubectl", Path(_state()["logs"]))


def _tell_how_to_use(programs: Path) -> None:
    kubeconfig = os.environ.get("KUBECONFIG") or _own_kubeconfig()
    click.echo(f"export KUBECONFIG={kubeconfig} PATH={programs}:$PATH")


if __name__ == "__main__":
    try:
        main()
    except (ConfigurationError, ControlPlaneError, KubectlError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
