"""Fills a cluster with what a feed needs and a feed.

That is Kafka, a sandbox exchange, Alertmanager, Prometheus, and Fulltape by Helm. What can't be had without an image
registry has a stand-in: `strimzi`, `prometheus`.
"""

import json
import os
import subprocess
from pathlib import Path

from tests.cluster.images import TAG
from tests.control_plane.crds import ensure_crds
from tests.control_plane.plane import Cluster, KubectlError

MANIFESTS = Path(__file__).parent / "manifests"
ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "fulltape"
OPERATOR_NAMESPACE = "fulltape"
DATA_NAMESPACE = "data"
S3_SECRET = "s3"
"""The Secret with credentials in the namespaces of feeds that use S3."""
KAFKA_NAMESPACE = "kafka"
"""Of the Kafka that the stand-in for Strimzi looks after."""
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


def fill(cluster: Cluster, helm: Path, rate: int) -> None:
    """Install everything, and a feed in the namespace markets; return once the feed is ready.

    Args:
        cluster: its nodes have the images.
        helm: the program.
        rate: trades/s of the sandbox exchange.

    Raises:
        KubectlError: something does not become ready in time; says what.

    """
    install_surroundings(cluster, rate)
    install_fulltape(cluster, helm)
    make_namespace(cluster, "markets")
    cluster.kubectl("apply", "--namespace=markets", f"--filename={MANIFESTS / 'feed.yaml'}")
    cluster.kubectl("wait", "--namespace=markets", "--for=condition=Ready", "cryptofeed/majors", "--timeout=110s")


def install_surroundings(cluster: Cluster, rate: int) -> None:
    """Start Kafka, the sandbox exchange, Alertmanager and Prometheus in the namespace data, and wait for them.

    The CRDs of Strimzi and prometheus-operator are there afterwards.

    Args:
        cluster: its nodes have the images.
        rate: trades/s of the exchange.

    """
    cluster.install_crds([ensure_crds()])
    make_namespace(cluster, DATA_NAMESPACE)
    _give_program(cluster, "prometheus", DATA_NAMESPACE)
    for name in ("kafka", "exchange", "alertmanager", "prometheus"):
        text = (MANIFESTS / f"{name}.yaml").read_text()
        for at_200, at_rate in (("--rate=200", f"--rate={rate}"), *_cpu_at(rate)):
            text = text.replace(at_200, at_rate)
        cluster.kubectl("apply", "--filename=-", input=text)
    for workload in ("statefulset/kafka", "deployment/exchange", "deployment/alertmanager", "deployment/prometheus"):
        cluster.kubectl("rollout", "status", f"--namespace={DATA_NAMESPACE}", workload, "--timeout=100s")


def _cpu_at(rate: int) -> list[tuple[str, str]]:
    """Return what of the manifests, which are for 200 trades/s, another rate makes of the CPU that programs ask for.

    A core that is fought for is shared by what each asks for. All that runs must fit onto a node of two.
    """
    more = min(rate, 2000) - 200
    return [("cpu: 140m", f"cpu: {140 + more // 10}m"), ("cpu: 70m", f"cpu: {70 + more // 30}m")]


def install_strimzi(cluster: Cluster) -> None:
    """Start the stand-in for Strimzi and its Kafka, feeds, in the namespace kafka, and wait until it is ready."""
    make_namespace(cluster, KAFKA_NAMESPACE)
    _give_program(cluster, "strimzi", KAFKA_NAMESPACE)
    for name in ("strimzi", "kafka-tls"):
        cluster.kubectl("apply", f"--filename={MANIFESTS / f'{name}.yaml'}")
    cluster.kubectl("wait", f"--namespace={KAFKA_NAMESPACE}", "--for=condition=Ready", "kafka/feeds", "--timeout=100s")


def install_s3(cluster: Cluster, bucket: str) -> None:
    """Start an S3 server in the namespace data, wait for it, and make a bucket."""
    cluster.kubectl("apply", f"--filename={MANIFESTS / 's3.yaml'}")
    cluster.kubectl("rollout", "status", f"--namespace={DATA_NAMESPACE}", "deployment/s3", "--timeout=100s")
    place = f"/api/v1/namespaces/{DATA_NAMESPACE}/services/s3:9000/proxy/{bucket}"
    cluster.kubectl("replace", f"--raw={place}", "--filename=-", input="")  # PUT, which is how S3 makes a bucket


def give_s3_credentials(cluster: Cluster, namespace: str) -> None:
    """Make the Secret by which the feeds of a namespace use S3."""
    credentials = "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI\n"
    metadata = {"name": S3_SECRET, "namespace": namespace}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"credentials": credentials}}
    cluster.kubectl("apply", "--filename=-", input=json.dumps(secret))


def install_fulltape(cluster: Cluster, helm: Path, *settings: str) -> None:
    """Install or upgrade the chart, and wait for the operator.

    Args:
        cluster: where.
        helm: the program.
        settings: values of the chart, as ``--set`` takes them.

    Raises:
        KubectlError: Helm failed; holds what it said.

    """
    given = [f"image.repository=localhost/fulltape,image.tag={TAG}"]
    given += [f"sparkImage.repository=localhost/fulltape-spark,sparkImage.tag={TAG}"]
    given += ["platform.podMonitors=true,platform.prometheusRules=true"]
    given += [
        f"platform.s3.endpoint=http://s3.data.svc:9000,platform.s3.region=us-east-1,platform.s3.secretName={S3_SECRET}"
    ]
    given += ["podMonitor.enabled=true,prometheusRule.enabled=true"]
    run_helm(
        cluster,
        helm,
        "upgrade", "--install", "fulltape", str(CHART), f"--namespace={OPERATOR_NAMESPACE}", "--create-namespace",
        *(f"--set={setting}" for setting in (*given, *settings)), "--wait", "--timeout=100s",
    )  # fmt: skip


def run_helm(cluster: Cluster, helm: Path, *arguments: str) -> str:
    """Run Helm and return what it prints.

    Raises:
        KubectlError: it failed; holds what it said.

    """
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    done = subprocess.run([helm, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KubectlError(done.stderr.strip())
    return done.stdout


def _give_program(cluster: Cluster, name: str, namespace: str) -> None:
    """Make the ConfigMap with a stand-in's program, which its pod mounts."""
    program = Path(__file__).with_name(f"{name}.py")
    manifest = cluster.kubectl(
        "create", "configmap", name, f"--namespace={namespace}", f"--from-file={program}", "--dry-run=client",
        "--output=yaml",
    )  # fmt: skip
    cluster.kubectl("apply", "--filename=-", input=manifest)


def make_namespace(cluster: Cluster, name: str) -> None:
    """Make a namespace that admits only restricted pods, where there is none."""
    manifest = cluster.kubectl("create", "namespace", name, "--dry-run=client", "--output=yaml")
    cluster.kubectl("apply", "--filename=-", input=manifest)
    cluster.kubectl("label", "namespace", name, RESTRICTED, "--overwrite")
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=60s")
