"""A cluster as tests see it: one that is named to them, or a control plane that is started for them.

`ControlPlane` runs etcd, kube-apiserver and kube-controller-manager on this machine, with the admission, RBAC, garbage
collection and controllers of any cluster. It has no scheduler and no node: see `kubelet`. What tests do to any cluster
stands in `Cluster`; what they do to this one alone, such as taking its API server down, in `ControlPlane`.
"""

import base64
import json
import os
import secrets
import shutil
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from fulltape.local.child import start_child
from fulltape.local.kafka import free_port
from tests.control_plane.certificates import write_certificates

_START_SECONDS = 60.0
_COMMAND_SECONDS = 120.0

_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: None
  userGroups: [system:masters]
- level: Metadata
  omitStages: [RequestReceived]
"""
"""What service accounts ask for is written down; what tests themselves and the controllers do is not."""


class KubectlError(Exception):
    """kubectl ended with an error; the text is what it said."""


class ControlPlaneError(Exception):
    """A server of the control plane ended or did not answer in time; the text holds the ends of the logs."""


class Cluster:
    """A cluster that a kubeconfig opens.

    Args:
        kubeconfig: opens it, with an administrator's rights.
        kubectl: the program.
        folder: gets more kubeconfigs, and kubectl's cache.

    """

    def __init__(self, kubeconfig: Path, kubectl: Path, folder: Path) -> None:
        self.kubeconfig = kubeconfig
        self._kubectl = kubectl
        self._folder = folder

    def kubectl(self, *arguments: str | Path, input: str | None = None) -> str:  # noqa: A002 - as subprocess.run does
        """Run kubectl as the administrator and return what it prints.

        Args:
            arguments: those of kubectl.
            input: what it reads from stdin, for ``-f -``.

        Raises:
            KubectlError: it ended with another code than 0, or not within two minutes.

        """
        environment = os.environ | {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self._folder / "cache")}
        try:
            found = subprocess.run(
                [self._kubectl, *arguments], input=input, env=environment, capture_output=True, text=True,
                timeout=_COMMAND_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise KubectlError(f"kubectl {arguments[0]} did not end in {_COMMAND_SECONDS:g} s") from error
        if found.returncode:
            raise KubectlError(found.stderr.strip() or found.stdout.strip())
        return found.stdout

    def get(self, *arguments: str) -> Any:
        """Return what ``kubectl get`` finds, as JSON says it.

        Raises:
            KubectlError: it found nothing, or as `kubectl`.

        """
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def install_crds(self, files: Iterable[Path]) -> None:
        """Apply CustomResourceDefinitions and wait until the API server answers for their kinds.

        Args:
            files: files and folders of them.

        Raises:
            KubectlError: one was refused, or is not answered for within a minute.

        """
        named = [f"--filename={path}" for path in files]
        self.kubectl("apply", "--server-side", "--force-conflicts", *named)
        # Waiting for a condition fails where there is no status to look at yet.
        self.kubectl("wait", "--for=jsonpath={.status.conditions}", "--timeout=60s", *named)
        self.kubectl("wait", "--for=condition=Established", "--timeout=60s", *named)

    def kubeconfig_for(self, service_account: str, namespace: str) -> Path:
        """Return a kubeconfig that opens the cluster as a service account, for a day.

        Raises:
            KubectlError: there is no such service account.

        """
        token = self.kubectl("create", "token", service_account, f"--namespace={namespace}", "--duration=24h")
        config = yaml.safe_load(self.kubectl("config", "view", "--raw", "--minify", "--flatten"))
        cluster = config["clusters"][0]["cluster"]
        path = self._folder / f"{namespace}-{service_account}.kubeconfig"
        write_kubeconfig(path, cluster, token.strip(), namespace)
        return path


class ControlPlane(Cluster):
    """A control plane on this machine; a context manager that starts and stops it. No process of it outlives this one.

    Args:
        programs: folder of its programs: see `build`.
        crds: files and folders of CustomResourceDefinitions, which are there before any controller looks for kinds:
            the garbage collector looks for new ones only twice a minute.
        address: where the API server listens.
        folder: is made for all that it keeps; by default a temporary one.

    """

    def __init__(
        self, programs: Path, crds: Sequence[Path] = (), address: str = "127.0.0.1", folder: Path | None = None
    ) -> None:
        folder = folder or Path(tempfile.mkdtemp(prefix="fulltape-plane-"))
        super().__init__(folder / "admin.kubeconfig", programs / "kubectl", folder)
        self.programs = programs
        self.token = secrets.token_urlsafe(24)
        """The administrator's."""
        self.logs = folder / "logs"
        self._crds = tuple(crds)
        self._address = address
        self._tls = folder / "tls"
        self._etcd_socket = folder / "etcd.sock"
        self._port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, Sequence[str | Path]] = {}

    @property
    def url(self) -> str:
        """The API server's."""
        return f"https://{self._address}:{self._port}"

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """What trusts the API server."""
        return ssl.create_default_context(cafile=self._tls / "ca.crt")

    def __enter__(self) -> Self:
        try:
            self._write_files()
            self._start_etcd()
            self._start_server()
            if self._crds:
                self.install_crds(self._crds)
            self._start_controllers()
            self._until("kube-controller-manager", self._has_accounts)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process and delete all data."""
        for name in list(self._processes):
            self._kill(name)
        shutil.rmtree(self._folder, ignore_errors=True)

    def stop_api_server(self) -> None:
        """Take the API server down as a crash does. Its data stay with etcd."""
        self._kill("kube-apiserver")

    def start_api_server(self) -> None:
        """Bring the API server back, on the same port and data, and return once it answers.

        The controllers start anew with it: in a cluster they too end when they can't hold their leases.

        Raises:
            ControlPlaneError: a server ended or did not answer in time.

        """
        self._kill("kube-controller-manager")
        self._start_server()
        self._start_controllers()

    def is_ready(self) -> bool:
        """Tell whether the API server answers now."""
        return self._answers("/readyz")

    def requests_of(self, service_account: str, namespace: str) -> Iterator[Mapping[str, Any]]:
        """Give every request that a service account has made so far, as the API server's audit events say it."""
        user = f"system:serviceaccount:{namespace}:{service_account}"
        with (self.logs / "audit.log").open() as lines:
            for line in lines:
                event = json.loads(line)
                if event["user"].get("username") == user:  # a stranger has none
                    yield event

    def ends_of_logs(self, lines: int = 15) -> str:
        """Return the last lines of each server's log."""
        found = []
        for name in self._commands:
            path = self.logs / f"{name}.log"
            if path.exists():
                found += [f"--- {name}", *path.read_text(errors="replace").splitlines()[-lines:]]
        return "\n".join(found)

    def _write_files(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.logs, self._tls):
            folder.mkdir()
        write_certificates(self._tls, self._server_names())
        (self._folder / "tokens.csv").write_text("".join(self._users()))
        (self._folder / "audit.yaml").write_text(_AUDIT_POLICY)
        authority = base64.b64encode((self._tls / "ca.crt").read_bytes()).decode()
        cluster = {"server": self.url, "certificate-authority-data": authority}
        write_kubeconfig(self.kubeconfig, cluster, self.token, "default")

    def _server_names(self) -> list[str]:
        """Return the names and addresses that the API server is reached by."""
        return ["localhost", self._address]

    def _users(self) -> list[str]:
        """Return lines of the API server's file of tokens: token, user, ID, groups."""
        return [f'{self.token},admin,admin,"system:masters"\n']

    def _start_etcd(self) -> None:
        peers = f"unix://{self._folder}/peers.sock"
        self._start(
            "etcd",
            f"--data-dir={self._folder}/etcd",
            f"--listen-client-urls=unix://{self._etcd_socket}",
            f"--advertise-client-urls=unix://{self._etcd_socket}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",  # what is tested is the death of processes, not of the machine
            "--log-level=warn",
        )

    def _start_server(self) -> None:
        """Start the API server; it waits for etcd by itself."""
        self._start(
            "kube-apiserver",
            f"--etcd-servers=unix://{self._etcd_socket}",
            f"--bind-address={self._address}",
            f"--advertise-address={self._address}",
            f"--secure-port={self._port}",
            f"--tls-cert-file={self._tls}/server.crt",
            f"--tls-private-key-file={self._tls}/server.key",
            f"--token-auth-file={self._folder}/tokens.csv",
            "--anonymous-auth=false",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._tls}/accounts.pub",
            f"--service-account-signing-key-file={self._tls}/accounts.key",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true",  # so that it is Pod Security which refuses
            f"--audit-policy-file={self._folder}/audit.yaml",
            f"--audit-log-path={self.logs}/audit.log",
            "--profiling=false",
            *self._server_flags(),
        )
        self._until("kube-apiserver", self.is_ready)

    def _server_flags(self) -> list[str]:
        # A Service has no use for a loopback address.
        return ["--endpoint-reconciler-type=none"]

    def _start_controllers(self) -> None:
        self._start(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            f"--root-ca-file={self._tls}/ca.crt",
            f"--service-account-private-key-file={self._tls}/accounts.key",
            "--secure-port=0",
            f"--flex-volume-plugin-dir={self._folder}/volume-plugins",
            # A hundred feeds at a time wait for these controllers less than for the operator.
            "--kube-api-qps=1000",
            "--kube-api-burst=2000",
            "--concurrent-deployment-syncs=20",
            "--concurrent-replicaset-syncs=20",
            "--concurrent-statefulset-syncs=20",
            "--profiling=false",
            *self._controller_flags(),
        )

    def _controller_flags(self) -> list[str]:
        # The stand-in for a node sends no heartbeats.
        return ["--controllers=*,-node-lifecycle-controller"]

    def _start(self, name: str, *arguments: str) -> None:
        self._spawn(name, [self.programs / name, *arguments])

    def _spawn(self, name: str, command: Sequence[str | Path]) -> None:
        self._commands[name] = command
        self._processes[name] = start_child(command, output=self.logs / f"{name}.log")

    def _kill(self, name: str) -> None:
        if process := self._processes.pop(name, None):
            process.kill()
            process.wait()

    def _until(self, name: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            ended = [name for name, process in self._processes.items() if process.poll() is not None]
            if ended:
                raise ControlPlaneError(f"{ended[0]} ended by itself\n{self.ends_of_logs()}")
            if time.monotonic() > deadline:
                raise ControlPlaneError(f"{name} did not answer in {_START_SECONDS:g} s\n{self.ends_of_logs()}")
            time.sleep(0.05)

    def _has_accounts(self) -> bool:
        """Tell whether the controllers work: they give each namespace its service account."""
        return self._answers("/api/v1/namespaces/default/serviceaccounts/default")

    def _answers(self, path: str) -> bool:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, context=self.ssl_context, timeout=5):
                return True
        except OSError:  # also a refusal: HTTPError is one
            return False


def write_kubeconfig(path: Path, cluster: Mapping[str, Any], token: str, namespace: str) -> None:
    """Write a kubeconfig that only this user may read."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": dict(cluster)}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        "current-context": "test",
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
