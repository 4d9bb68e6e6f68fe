"""The *restricted* Pod Security Standard as a function, independent of how the operator makes pods.

Source: Kubernetes, "Pod Security Standards", restricted, which contains baseline. Fields of Windows' pods are left out.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_SECCOMP = {"RuntimeDefault", "Localhost"}
_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}
_SELINUX_TYPES = {"container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def violations(pod: Mapping[str, Any]) -> list[str]:
    """Return what of a pod's spec the restricted standard forbids, by field; nothing for a pod that it lets in."""
    return sorted({*_of_pod(pod), *_of_containers(pod)})


def _of_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
    for volume in pod.get("volumes", ()):
        yield from (f"volumes.{kind}" for kind in volume.keys() - {"name"} - _VOLUMES)
    context = pod.get("securityContext", {})
    yield from (f"sysctls.{one['name']}" for one in context.get("sysctls", ()) if one["name"] not in _SYSCTLS)
    yield from _of_context(context)


def _of_containers(pod: Mapping[str, Any]) -> Iterator[str]:
    of_pod = pod.get("securityContext", {})
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod.get(kind, ()):
            own = container.get("securityContext", {})
            yield from _of_context(own)
            yield from (f"hostPort {port['hostPort']}" for port in container.get("ports", ()) if port.get("hostPort"))
            yield from _of_probes(container)
            if own.get("privileged"):
                yield "privileged"
            if own.get("procMount", "Default") != "Default":
                yield "procMount"
            if own.get("allowPrivilegeEscalation") is not False:
                yield "allowPrivilegeEscalation"
            capabilities = own.get("capabilities", {})
            if "ALL" not in capabilities.get("drop", ()):
                yield "capabilities.drop"
            if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
                yield "capabilities.add"
            # What a container leaves out is the pod's.
            both = {**of_pod, **own}
            if both.get("runAsNonRoot") is not True:
                yield "runAsNonRoot"
            if both.get("seccompProfile", {}).get("type") not in _SECCOMP:
                yield "seccompProfile"


def _of_context(context: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is forbidden in the security context of a pod and of a container alike."""
    if context.get("runAsUser") == 0:
        yield "runAsUser"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in _SECCOMP:
        yield "appArmorProfile"
    options = context.get("seLinuxOptions", {})
    if options.get("type", "container_t") not in _SELINUX_TYPES or options.get("user") or options.get("role"):
        yield "seLinuxOptions"


def _of_probes(container: Mapping[str, Any]) -> Iterator[str]:
    handlers = [container.get(f"{name}Probe", {}) for name in ("startup", "liveness", "readiness")]
    handlers += container.get("lifecycle", {}).values()
    if any(handler.get(how, {}).get("host") for handler in handlers for how in ("httpGet", "tcpSocket")):
        yield "probes.host"
