"""The node of this machine comes back after a crash, is there once however often it is asked for, and leaves nothing.

It comes before what needs a cluster: a machine has one node.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fulltape.errors import ConfigurationError
from tests.cluster.__main__ import STATE
from tests.cluster.build import ensure_node_programs
from tests.cluster.node import check_machine, running
from tests.cluster.settings import CONTROL_GROUP, PAUSE_IMAGE
from tests.control_plane.build import ensure_programs
from tests.control_plane.plane import Cluster
from tests.lacking import lacking

pytestmark = pytest.mark.e2e

_FOLDERS = ("/etc", "/opt", "/run", "/usr/libexec", "/var/lib", "/var/log")
_OTHERS = {"/run/systemd", "/run/udev", "/run/user"}
"""What the machine itself writes at any time."""
_POD = f"""
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: some}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 16Mi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: some}}
spec:
  containers: [{{name: some, image: "{PAUSE_IMAGE}", volumeMounts: [{{name: some, mountPath: /some}}]}}]
  volumes: [{{name: some, persistentVolumeClaim: {{claimName: some}}}}]
"""


@pytest.fixture
def programs() -> Iterator[Path]:
    """Give the control plane's programs, on a machine that has no node; stop one that a failure has left."""
    if "FULLTAPE_TEST_KUBECONFIG" in os.environ:
        pytest.skip("a cluster that is named is another's")
    try:
        check_machine()
        ensure_node_programs()
        programs = ensure_programs()
    except ConfigurationError as error:
        lacking(f"needs a node: {error}")
    assert not running(), "this machine has a node already; stop it with make cluster-down"
    yield programs
    _cluster("down")


def test_a_node_comes_back_after_a_crash_is_there_once_and_leaves_nothing(programs: Path, tmp_path: Path) -> None:
    before = _traces()
    _cluster("up")
    _start_pod(programs, tmp_path)
    os.kill(_holder(), signal.SIGKILL)
    _wait_until_ended()
    _cluster("up")
    holder = _holder()
    _start_pod(programs, tmp_path)
    _cluster("up")
    assert _holder() == holder
    _cluster("down")
    assert _traces() - before == set()


def test_what_a_crash_left_is_taken_away_without_another_start(programs: Path, tmp_path: Path) -> None:
    before = _traces()
    _cluster("up")
    _start_pod(programs, tmp_path)
    os.kill(_holder(), signal.SIGKILL)
    _wait_until_ended()
    _cluster("down")
    assert _traces() - before == set()


def _cluster(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster", command], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def _holder() -> int:
    return int(json.loads(STATE.read_text())["pid"])


def _wait_until_ended() -> None:
    deadline = time.monotonic() + 20
    while running():
        assert time.monotonic() < deadline, "who held the node does not end"
        time.sleep(0.05)


def _start_pod(programs: Path, folder: Path) -> None:
    """Have the node run a pod with a volume."""
    cluster = Cluster(Path(json.loads(STATE.read_text())["kubeconfig"]), programs / "kubectl", folder)
    cluster.kubectl("wait", "serviceaccount/default", "--for=create", "--timeout=60s")
    cluster.kubectl("apply", "--filename=-", input=_POD)
    cluster.kubectl("wait", "pod/some", "--for=condition=Ready", "--timeout=60s")


def _traces() -> set[str]:
    """Return what can be seen of nodes on this machine: mounts, networks, packet filters, groups, processes, files."""
    found = {f"mounted: {line.split()[1]}" for line in Path("/proc/mounts").read_text().splitlines()}
    for command in (["ip", "-brief", "link"], ["ip", "netns"], ["nft", "list", "tables"]):
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found |= {f"{command[0]}: {line.split('@')[0].rstrip()}" for line in said.splitlines()}
    found |= {f"group: {path}" for path in Path("/sys/fs/cgroup").glob(f"**/{CONTROL_GROUP}")}
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        if "fulltape-node" in words or "tests.cluster" in words:
            found.add(f"process: {words}")
    for folder in _FOLDERS:
        for path, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if path.count("/") < 4 and f"{path}/{name}" not in _OTHERS]
            found |= {f"{path}/{name}" for name in (*folders, *files)}
    return found | {str(path) for path in Path("/tmp").glob("fulltape-*")}
