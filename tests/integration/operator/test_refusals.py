"""What is said of an object that a real API server refuses: what is wrong and the mend, and nothing that is not so."""

import asyncio
from pathlib import Path

import pytest
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from fulltape_operator.cluster import ApiError, Cluster
from fulltape_operator.desired.child import Key, Manifest
from fulltape_operator.reconcile import refused
from fulltape_operator.status import Problem
from tests.control_plane.plane import ControlPlane

pytestmark = pytest.mark.integration


@pytest.fixture
def limited(control_plane: ControlPlane, namespace: str) -> Path:
    """Give the kubeconfig of one who may write a few kinds and is asked whether he has what he gives."""
    control_plane.kubectl("create", "serviceaccount", "limited", f"--namespace={namespace}")
    control_plane.kubectl("create", "role", "editor", "--verb=*", "--resource=rolebindings", f"--namespace={namespace}")
    account = f"--serviceaccount={namespace}:limited"
    control_plane.kubectl("create", "rolebinding", "editor", "--role=editor", account, f"--namespace={namespace}")
    return control_plane.kubeconfig_for("limited", namespace)


def said_of(manifest: Manifest, kubeconfig: Path) -> Problem:
    """Apply an object that is refused, and return what is said of it."""

    async def apply() -> ApiError:
        configuration = Configuration()
        await config.load_kube_config(str(kubeconfig), client_configuration=configuration)
        async with ApiClient(configuration) as client:
            with pytest.raises(ApiError) as caught:
                await Cluster(client).apply(manifest)
            return caught.value

    metadata = manifest["metadata"]
    return refused(asyncio.run(apply()), Key(manifest["kind"], metadata["namespace"], metadata["name"]))


def test_a_binding_to_a_role_that_is_not_there_yet_says_so_and_needs_nobody(limited: Path, namespace: str) -> None:
    group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "majors-panes", "namespace": namespace},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "majors-panes"},
        "subjects": [{"kind": "ServiceAccount", "name": "majors-panes", "namespace": namespace}],
    }
    said = said_of(binding, limited)
    assert (said.reason, said.needs_person) == ("NotFound", False)
    assert '"majors-panes" not found' in said.message
    assert "namespace" not in said.message.replace(namespace, "")


def test_an_object_in_a_namespace_that_does_not_exist_says_so(control_plane: ControlPlane, namespace: str) -> None:
    nowhere = f"{namespace}-nowhere"
    topic = {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaTopic",
        "metadata": {"name": "majors.trades", "namespace": nowhere},
        "spec": {"partitions": 1},
    }
    for manifest in (topic, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": nowhere}}):
        said = said_of(manifest, control_plane.kubeconfig)
        assert (said.reason, said.needs_person) == ("NamespaceMissing", True)
        assert nowhere in said.message
