"""A stand-in for prometheus-operator: ``python3 prometheus.py FOLDER``, in the pod of Prometheus, a file of its own.

It writes what PodMonitors and PrometheusRules ask for as Prometheus' configuration, and has Prometheus read it anew.
Debian's Prometheus can't ask Kubernetes for pods, so their addresses are written to files too. The kubelets' metrics of
containers are read besides, as prometheus-operator has them read where it is installed as is usual: those by way of
containerd, since cAdvisor knows no containers by name whose containerd is not in its usual place.
"""

import json
import logging
import re
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from urllib3.exceptions import HTTPError

_log = logging.getLogger(__name__)
_PASS_SECONDS = 1.0
_RELOAD = "http://127.0.0.1:9090/-/reload"
_ALERTMANAGER = "alertmanager.data.svc:9093"
_API = ("monitoring.coreos.com", "v1")
_KINDS = ("podmonitors", "prometheusrules")
_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
_EVALUATION_SECONDS = 5
_KUBELET_SECONDS = 10
"""As often as it looks at containers itself."""

_Object = Mapping[str, Any]


def configuration(
    folder: Path,
    monitors: Sequence[_Object],
    rules: Sequence[_Object],
    pods: Sequence[_Object],
    nodes: Sequence[_Object],
) -> dict[str, str]:
    """Return Prometheus' files by their paths in its folder: pure."""
    jobs: list[dict[str, Any]] = [
        {
            "job_name": "kubelet",
            "scheme": "https",
            "metrics_path": "/metrics/resource",
            "scrape_interval": f"{_KUBELET_SECONDS}s",
            "authorization": {"credentials_file": _TOKEN},
            "tls_config": {"insecure_skip_verify": True},  # kubelets sign their certificates themselves
            "honor_timestamps": False,
            "file_sd_configs": [{"files": [f"{folder}/targets/kubelet.json"]}],
        }
    ]
    files = {"targets/kubelet.json": json.dumps([_target(address, {}) for address in _kubelets(nodes)])}
    for monitor in monitors:
        for number, endpoint in enumerate(monitor["spec"]["podMetricsEndpoints"]):
            name = f"podMonitor/{_name(monitor)}/{number}"
            path = f"targets/{name.replace('/', '-')}.json"
            job = {"job_name": name, "metrics_path": endpoint.get("path", "/metrics")}
            job |= {"scrape_interval": endpoint["interval"]} if "interval" in endpoint else {}
            jobs.append({**job, "file_sd_configs": [{"files": [f"{folder}/{path}"]}]})
            files[path] = json.dumps(list(_targets(monitor, endpoint["port"], pods)), indent=1)
    for rule in rules:
        path = f"rules/{_name(rule).replace('/', '-')}.yaml"
        files[path] = yaml.safe_dump({"groups": rule["spec"].get("groups", [])}, sort_keys=False)
    main = {
        # As prometheus-operator marks what a Prometheus says to others.
        "global": {
            "evaluation_interval": f"{_EVALUATION_SECONDS}s",
            "external_labels": {"prometheus": "data/prometheus"},
        },
        "rule_files": sorted(f"{folder}/{path}" for path in files if path.startswith("rules/")),
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [_ALERTMANAGER]}]}]},
        "scrape_configs": jobs,
    }
    files["prometheus.yml"] = yaml.safe_dump(main, sort_keys=False)
    return files


def _targets(monitor: _Object, port: str, pods: Sequence[_Object]) -> Iterator[_Object]:
    """Give a port of the pods that a PodMonitor selects, with the labels that prometheus-operator gives it."""
    spec = monitor["spec"]
    wanted = spec["selector"].get("matchLabels", {})
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status", {})
        labels = metadata.get("labels", {})
        if (
            metadata["namespace"] != monitor["metadata"]["namespace"]
            or not wanted.items() <= labels.items()
            or status.get("phase") in {"Failed", "Succeeded"}
            or not status.get("podIP")
        ):
            continue
        kept = {_label(name): labels[name] for name in spec.get("podTargetLabels", ()) if name in labels}
        for container in pod["spec"]["containers"]:
            for one in container.get("ports", ()):
                if one.get("name") == port:
                    place = {
                        "job": _name(monitor),
                        "namespace": metadata["namespace"],
                        "pod": metadata["name"],
                        "container": container["name"],
                        "endpoint": port,
                    }
                    yield _target(f"{status['podIP']}:{one['containerPort']}", kept | place)


def _kubelets(nodes: Sequence[_Object]) -> Iterator[str]:
    for node in nodes:
        port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        yield from (f"{one['address']}:{port}" for one in node["status"]["addresses"] if one["type"] == "InternalIP")


def _target(address: str, labels: Mapping[str, str]) -> _Object:
    return {"targets": [address], "labels": dict(labels)}


def _label(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _name(live: _Object) -> str:
    return f"{live['metadata']['namespace']}/{live['metadata']['name']}"


class Writer:
    """Keeps the files of one Prometheus."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[str, str] = {}
        self._loaded: dict[str, str] = {}

    def write(self, files: Mapping[str, str]) -> None:
        """Write what differs, and have Prometheus read all anew where that is needed.

        Raises:
            OSError: Prometheus does not answer, or refuses what was written.

        """
        for path in self._written.keys() - files.keys():
            (self._folder / path).unlink()
        for path, text in files.items():
            if self._written.get(path) != text:
                target = self._folder / path
                target.parent.mkdir(exist_ok=True)
                part = target.with_suffix(".part")
                part.write_text(text)
                part.rename(target)
        self._written = dict(files)
        # Prometheus watches the files of targets by itself.
        wanted = {path: text for path, text in files.items() if not path.startswith("targets/")}
        if wanted != self._loaded:
            with urllib.request.urlopen(urllib.request.Request(_RELOAD, method="POST"), timeout=30):
                self._loaded = wanted
                _log.info("Prometheus reads %s", ", ".join(sorted(files)))


def main(folder: Path) -> None:
    """Look again and again; the API server and Prometheus may be away meanwhile."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config.load_config()
    core, custom = client.CoreV1Api(), client.CustomObjectsApi()
    writer = Writer(folder)
    while True:
        try:
            monitors, rules = (custom.list_cluster_custom_object(*_API, plural)["items"] for plural in _KINDS)
            # As the API server sends them: hundreds of objects of Python's would be made of each pod.
            answers = (
                core.list_pod_for_all_namespaces(_preload_content=False),
                core.list_node(_preload_content=False),
            )
            pods, nodes = (json.loads(answer.data)["items"] for answer in answers)
            writer.write(configuration(folder, monitors, rules, pods, nodes))
        except (client.ApiException, HTTPError, OSError) as error:
            _log.warning("tried again: %s", error)
        time.sleep(_PASS_SECONDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
