"""The settings of the node's servers, and the objects that a cluster has from its start: DNS and a class of storage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster.network import DNS_ADDRESS, NODE_ADDRESS, POD_NETWORK

FOLDER = Path("/var/lib/fulltape-node")
"""All that the node keeps, and is told where to."""
CONTROL_GROUP = "fulltape-node"
CNI_PLUGINS = Path("/usr/lib/cni")
PAUSE_IMAGE = "localhost/pause:1"
STORAGE_CLASS = "local"
SOCKET = FOLDER / "containerd.sock"

COREFILE = f"""\
.:53 {{
  bind {NODE_ADDRESS}
  errors
  ready {NODE_ADDRESS}:8181
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {FOLDER}/coredns.kubeconfig test
    ttl 5
  }}
}}
"""


def containerd_config(programs: Path) -> str:
    """Return containerd's settings, with the programs in a folder."""
    return f"""\
version = 3
root = "{FOLDER}/containerd"
state = "{FOLDER}/state"

[plugins.'io.containerd.internal.v1.opt']
path = "{FOLDER}/opt"

[plugins.'io.containerd.nri.v1.nri']
disable = true

[grpc]
address = "{SOCKET}"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins.'io.containerd.cri.v1.runtime']
# Less than its own is not for this user to set everywhere.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{CNI_PLUGINS}"]
conf_dir = "{FOLDER}/cni"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{programs}/runc"
Root = "{FOLDER}/runc"
"""


def kubelet_config(authority: Path) -> Mapping[str, Any]:
    """Return the kubelet's settings, whose clients a certificate authority vouches for."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CONTROL_GROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": f"{FOLDER}/resolv.conf",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        # A laptop's disk may be nearly full; its pods shall not be evicted for that.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": f"{FOLDER}/pod-logs",
        "volumePluginDir": f"{FOLDER}/volume-plugins",
        "shutdownGracePeriod": "0s",
        # A pod that is ready is told of at once, not within 10 seconds.
        "syncFrequency": "5s",
        "nodeStatusUpdateFrequency": "5s",
    }


KUBE_PROXY: Mapping[str, Any] = {
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
    "kind": "KubeProxyConfiguration",
    "clientConnection": {"kubeconfig": f"{FOLDER}/kube-proxy.kubeconfig"},
    "mode": "nftables",
    "clusterCIDR": POD_NETWORK,
    "oomScoreAdj": 0,
    "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
}

POD_NETWORK_NAME = "fulltape-pods"
"""Begins the names of what the CNI plugins note of this node's pods."""

CNI: Mapping[str, Any] = {
    "cniVersion": "1.0.0",
    "name": POD_NETWORK_NAME,
    "plugins": [
        {
            "type": "bridge",
            "bridge": "pods",
            "isGateway": True,
            "hairpinMode": True,  # a pod may reach itself through its Service
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": POD_NETWORK}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": f"{FOLDER}/addresses",
            },
        }
    ],
}

_CORE_DNS_RULES = [
    {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
]

ADD_ONS: list[Mapping[str, Any]] = [
    {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "fulltape.dev/local",
        "reclaimPolicy": "Delete",
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "coredns"},
        "rules": _CORE_DNS_RULES,
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "coredns"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "coredns"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "clusterIP": DNS_ADDRESS,
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}],
        },
    },
    {
        # CoreDNS runs beside the kubelet, not in a pod.
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
        "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}],
    },
]
"""Applied once the API server answers."""
