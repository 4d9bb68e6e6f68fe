"""A real Kubernetes of one node on this machine: the control plane, and beside it kubelet, containerd and their kind.

It needs Linux and root, and one machine has one such node. All that it makes is in `FOLDER`, in its network namespace
and in its control group; `remove_node` deletes these, also after a crash.
"""

import ctypes
import fcntl
import hashlib
import io
import json
import os
import secrets
import shutil
import signal
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

import yaml

from fulltape.errors import ConfigurationError
from tests.cluster.containers import import_archive, tag_image
from tests.cluster.network import (
    API_ADDRESS,
    HOST_ADDRESS,
    NODE_ADDRESS,
    delete_network,
    in_namespace,
    make_network,
    processes_in_network,
)
from tests.cluster.policies import Policies
from tests.cluster.settings import (
    ADD_ONS,
    CNI,
    CNI_PLUGINS,
    CONTROL_GROUP,
    COREFILE,
    FOLDER,
    KUBE_PROXY,
    PAUSE_IMAGE,
    POD_NETWORK_NAME,
    SOCKET,
    containerd_config,
    kubelet_config,
)
from tests.cluster.volumes import Volumes
from tests.control_plane.plane import ControlPlane, ControlPlaneError, write_kubeconfig

NODE_NAME = "fulltape"

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_SHIM_SOCKETS = Path("/run/containerd/s")
"""Where shims have their sockets, whatever folder containerd is given."""
_DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
"""Where a kubelet has a socket, whatever folder it is given."""
_LOG_LINKS = Path("/var/log/containers")
"""Where a kubelet links to the logs of containers, wherever these are."""
_CNI_RESULTS = Path("/var/lib/cni/results")
"""Where containerd notes what CNI plugins gave each pod, whatever folder it is given."""
_LOCK = Path("/run/fulltape-node.lock")
_DETACH = 2
"""MNT_DETACH of umount2(2)."""
_USERS = {
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
    "kube-proxy": ("system:kube-proxy", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "coredns": ("system:coredns", ""),
}
"""Which user of the API server each program of the node is, and of which group."""


class Node(ControlPlane):
    """The cluster; a context manager that starts and stops it.

    Args:
        programs: folder of the control plane's programs.
        node_programs: folder of the node's.
        crds: as of `ControlPlane`.

    Raises:
        ConfigurationError: this machine can't have a node, or has one; says what is missing.

    """

    def __init__(self, programs: Path, node_programs: Path, crds: Sequence[Path] = ()) -> None:
        check_machine()
        super().__init__(programs, crds, HOST_ADDRESS, FOLDER / "control-plane")
        self._node_programs = node_programs
        self._tokens = {name: secrets.token_urlsafe(24) for name in _USERS}
        self._lock = _take_lock()
        self._volumes = Volumes(self.kubeconfig, NODE_NAME, FOLDER / "volumes")
        self._policies = Policies(self.kubeconfig)

    def __enter__(self) -> Self:
        try:
            remove_node()  # what a crash left
            FOLDER.mkdir(mode=0o711)
            make_network()
            _make_control_group()
        except OSError as error:
            self.stop()
            raise ConfigurationError(
                f"this machine can't have a node: {error}; use one whose root may make network namespaces, or a "
                "cluster that KUBECONFIG names"
            ) from error
        super().__enter__()
        try:
            self._write_node_files()
            self._start_node()
            self._volumes.start()
            self._policies.start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End every process and pod and delete all data."""
        self._policies.stop()
        self._volumes.stop()
        super().stop()
        remove_node()
        self._lock.close()

    def revive(self) -> list[str]:
        """Start anew the servers that have ended, and return their names."""
        ended = [name for name, process in self._processes.items() if process.poll() is not None]
        for name in ended:
            self._spawn(name, self._commands[name])
        return ended

    def tag_image(self, name: str, other: str) -> None:
        """Give an image another name too.

        Raises:
            ConfigurationError: there is no such image.

        """
        tag_image(self._node_programs, name, other)

    def _server_names(self) -> list[str]:
        return [*super()._server_names(), API_ADDRESS, "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]

    def _users(self) -> list[str]:
        own = [f'{self._tokens[name]},{user},{user},"{groups}"\n' for name, (user, groups) in _USERS.items()]
        return [*super()._users(), *own]

    def _server_flags(self) -> list[str]:
        return [
            f"--kubelet-client-certificate={self._tls}/kubelet-client.crt",
            f"--kubelet-client-key={self._tls}/kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP",
        ]

    def _controller_flags(self) -> list[str]:
        return ["--node-monitor-grace-period=40s"]

    def _write_node_files(self) -> None:
        cluster = yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]["cluster"]
        for name, token in self._tokens.items():
            write_kubeconfig(FOLDER / f"{name}.kubeconfig", cluster, token, "default")
        (FOLDER / "resolv.conf").write_text("")
        (FOLDER / "containerd.toml").write_text(containerd_config(self._node_programs))
        (FOLDER / "Corefile").write_text(COREFILE)
        for name, config in (("kubelet", kubelet_config(self._tls / "ca.crt")), ("kube-proxy", KUBE_PROXY)):
            (FOLDER / f"{name}.yaml").write_text(yaml.safe_dump(config))
        cni = FOLDER / "cni"
        cni.mkdir()
        (cni / "10-bridge.conflist").write_text(json.dumps(CNI))
        (FOLDER / "volumes").mkdir()

    def _start_node(self) -> None:
        self._start_on_node("containerd", f"--config={FOLDER}/containerd.toml")
        self._until("containerd", SOCKET.exists)
        self._load_pause_image()
        self._start_on_node(
            "kubelet",
            f"--config={FOLDER}/kubelet.yaml",
            f"--kubeconfig={FOLDER}/kubelet.kubeconfig",
            f"--root-dir={FOLDER}/kubelet",
            f"--cert-dir={FOLDER}/kubelet/pki",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={NODE_ADDRESS}",
        )
        self._start_on_node("kube-proxy", f"--config={FOLDER}/kube-proxy.yaml", f"--hostname-override={NODE_NAME}")
        self.kubectl("apply", "--server-side", "--filename=-", input=yaml.safe_dump_all(ADD_ONS))
        self._start_on_node("coredns", f"-conf={FOLDER}/Corefile")
        self._start_on_node(
            "kube-scheduler",
            f"--kubeconfig={FOLDER}/kube-scheduler.kubeconfig",
            f"--authentication-kubeconfig={FOLDER}/kube-scheduler.kubeconfig",
            f"--authorization-kubeconfig={FOLDER}/kube-scheduler.kubeconfig",
            "--leader-elect=false",
        )
        self._until("kubelet", self._is_node_ready)

    def _is_node_ready(self) -> bool:
        for node in self.get("nodes")["items"]:
            if any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"].get("conditions", ())):
                return True
        return False

    def _start_on_node(self, name: str, *arguments: str) -> None:
        self._spawn(name, [*in_namespace(), self._node_programs / name, *arguments])

    def _load_pause_image(self) -> None:
        archive = FOLDER / "pause.tar"
        write_pause_image(self._node_programs / "pause", archive)
        import_archive(self._node_programs, archive)
        archive.unlink()


def check_machine() -> None:
    """Check that this machine can have a node.

    Raises:
        ConfigurationError: it can't; says what is missing and how to mend it.

    """
    if os.uname().sysname != "Linux" or os.geteuid() != 0:
        raise ConfigurationError("a node needs Linux and root; elsewhere use kind, and name its cluster by KUBECONFIG")
    absent = [name for name in ("ip", "nsenter", "nft", "sysctl", "mount", "mkfs.ext4") if shutil.which(name) is None]
    if not (CNI_PLUGINS / "bridge").exists():
        absent.append(str(CNI_PLUGINS / "bridge"))
    if absent:
        raise ConfigurationError(
            f"a node needs {', '.join(absent)}; install iproute2, util-linux, nftables, procps, mount, "
            "e2fsprogs and containernetworking-plugins, as scripts/setup.sh --cluster does on Debian"
        )


def remove_node() -> None:
    """Delete all that a node has made on this machine, whatever state it is in."""
    _kill_all()
    for point in _mounts():
        ctypes.CDLL(None, use_errno=True).umount2(str(point).encode(), _DETACH)
    delete_network()
    for group in _control_groups():
        for folder in sorted((path for path in group.glob("**/") if path.is_dir()), reverse=True):
            with suppress(OSError):  # busy for a moment longer; empty, so no harm
                folder.rmdir()
    _remove_dead_sockets()
    _remove_log_links()
    _remove_cni_results()
    shutil.rmtree(FOLDER, ignore_errors=True)


def _remove_dead_sockets() -> None:
    """Remove the sockets that nobody listens on; another containerd or kubelet of this machine has its own there."""
    in_use = Path("/proc/net/unix").read_text()
    for path in (*_SHIM_SOCKETS.glob("*"), _DEVICE_PLUGINS / "kubelet.sock"):
        if str(path) not in in_use:
            path.unlink(missing_ok=True)
    _remove_if_empty(_SHIM_SOCKETS, _SHIM_SOCKETS.parent, _DEVICE_PLUGINS, _DEVICE_PLUGINS.parent)


def _remove_log_links() -> None:
    for path in _LOG_LINKS.glob("*.log"):
        if path.is_symlink() and FOLDER in path.readlink().parents:
            path.unlink(missing_ok=True)
    _remove_if_empty(_LOG_LINKS)


def _remove_cni_results() -> None:
    """Remove what is noted of this node's pods; another containerd of this machine has its own there."""
    for path in _CNI_RESULTS.glob(f"{POD_NETWORK_NAME}-*-eth0"):
        pod = path.name.removeprefix(f"{POD_NETWORK_NAME}-").removesuffix("-eth0")
        path.unlink(missing_ok=True)
        (_CNI_RESULTS / f"cni-loopback-{pod}-lo").unlink(missing_ok=True)
    _remove_if_empty(_CNI_RESULTS, _CNI_RESULTS.parent)


def _remove_if_empty(*folders: Path) -> None:
    for folder in folders:
        with suppress(OSError):  # there is none, or it is somebody's
            folder.rmdir()


def _kill_all() -> None:
    """Kill what runs on the node and in its pods until nothing does."""
    deadline = time.monotonic() + 10
    while found := {*processes_in_network(), *_processes_in_groups()}:
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise ControlPlaneError(f"processes of the node do not end: {sorted(found)}")
        time.sleep(0.05)


def _processes_in_groups() -> Iterator[int]:
    for group in _control_groups():
        for path in group.glob("**/cgroup.procs"):
            with suppress(OSError):
                yield from map(int, path.read_text().split())


def _control_groups() -> list[Path]:
    """Return the node's groups: one, or one for each controller where the kernel has version 1."""
    return [
        path for path in (_CONTROL_GROUPS / CONTROL_GROUP, *_CONTROL_GROUPS.glob(f"*/{CONTROL_GROUP}")) if path.exists()
    ]


def _make_control_group() -> None:
    if (_CONTROL_GROUPS / "cgroup.controllers").exists():  # version 2
        controllers = (_CONTROL_GROUPS / "cgroup.controllers").read_text().split()
        (_CONTROL_GROUPS / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
        (_CONTROL_GROUPS / CONTROL_GROUP).mkdir()
        return
    for controller in _CONTROL_GROUPS.iterdir():
        if controller.is_dir() and not controller.is_symlink():
            (controller / CONTROL_GROUP).mkdir(exist_ok=True)
    # A new group of these may use nothing until it is told what.
    for name in ("cpuset.cpus", "cpuset.mems"):
        for group in _CONTROL_GROUPS.glob(f"*/{CONTROL_GROUP}/{name}"):
            group.write_text((group.parent.parent / name).read_text())


def _mounts() -> list[Path]:
    """Return what is mounted below the node's folders, the deepest first."""
    points = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()]
    return [point for point in reversed(points) if FOLDER in point.parents]


def running() -> bool:
    """Tell whether a process of this machine holds a node."""
    try:
        _take_lock().close()
    except ConfigurationError:
        return True
    return False


def forget_lock() -> None:
    """Remove the file of the lock, where no process holds a node.

    Raises:
        ConfigurationError: one does.

    """
    with _take_lock():  # who opens the file before it is gone can't lock it
        _LOCK.unlink()


def _take_lock() -> IO[str]:
    file = _LOCK.open("w")  # held as long as the node
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ConfigurationError(
            "this machine has a node already; stop it with make cluster-down, or name it by KUBECONFIG"
        ) from error
    return file


def write_pause_image(program: Path, archive: Path) -> None:
    """Write an image archive whose only file is the pause program."""
    layer = _tar({"pause": (program.read_bytes(), 0o755)})
    config = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]
    files = {
        "layer.tar": (layer, 0o644),
        "config.json": (json.dumps(config).encode(), 0o644),
        "manifest.json": (json.dumps(manifest).encode(), 0o644),
    }
    archive.write_bytes(_tar(files))


def _tar(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w") as archive:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return result.getvalue()
