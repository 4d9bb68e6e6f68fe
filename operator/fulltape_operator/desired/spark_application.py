"""Spark by Kubeflow's operator, on clusters that have it: a SparkApplication for each stream.

That operator submits it in cluster mode, by spark-submit: Spark makes the driver's pod from the template here, and the
image's entrypoint starts the program with the settings that Spark gives it. All that Spark has no words for stands in
the templates, so that no webhook is needed. Source: Kubeflow's Spark operator, `SparkApplication` v1beta2.
"""

import hashlib
import json
from typing import Any

from fulltape.feed.model import CryptoFeed
from fulltape.workloads import Workload
from fulltape_operator.desired.child import REVISION_LABEL, Manifest, child_name, manifest
from fulltape_operator.desired.pods import PodParts, image_of, pod_template, resources
from fulltape_operator.desired.spark import PORTS, executor_template, executors_of
from fulltape_operator.platform import Platform

_PROGRAMS = "local:///opt/fulltape"
"""Where the image has the programs."""
_DRIVER, _EXECUTOR = "spark-kubernetes-driver", "spark-kubernetes-executor"
"""The names by which that operator finds the containers in the templates."""
_SPARK_VERSION = "4.3.0"
"""Of the image."""
_HEAP_MIB = 1024
_RETRY_SECONDS = 5


def driver_pod(application: str) -> str:
    """Return the name of the pod of a SparkApplication's driver."""
    return f"{application}-driver"


def spark_application(
    feed: CryptoFeed, workload: Workload, parts: PodParts, platform: Platform, *, suspended: bool
) -> Manifest:
    """Return the SparkApplication of a stream. What alters its driver alters the driver's label with the revision."""
    _, module, *arguments = parts.arguments
    template = pod_template(feed, workload, parts, platform)
    executors, executor = executors_of(feed), executor_template(feed, workload, platform, _EXECUTOR)
    labels = template["metadata"].pop("labels")
    driver = {
        "cores": 1,
        "coreRequest": resources(feed, workload)["requests"]["cpu"],
        "memory": f"{_HEAP_MIB}m",
        "memoryOverhead": f"{workload.memory_mib - _HEAP_MIB}m",
        "serviceAccount": parts.service_account,
        "template": _driver_template(template),
    }
    spec: dict[str, Any] = {
        "type": "Python",
        "pythonVersion": "3",
        "mode": "cluster",
        "sparkVersion": _SPARK_VERSION,
        "image": image_of(workload, platform),
        "imagePullPolicy": platform.image_pull_policy,
        "mainApplicationFile": f"{_PROGRAMS}/{module.replace('.', '/')}.py",
        "arguments": arguments,
        "sparkConf": PORTS,
        # A driver's pod is never started again: whatever ends it, another takes its place.
        "restartPolicy": {
            "type": "Always",
            "onFailureRetryInterval": _RETRY_SECONDS,
            "onSubmissionFailureRetryInterval": _RETRY_SECONDS,
        },
        "driver": driver,
        "executor": {
            "instances": executors.instances,
            "cores": executors.cores,
            "coreRequest": executors.cpu,
            "memory": executors.memory,
            "memoryOverhead": executors.memory_overhead,
            "deleteOnTermination": True,
            # Left out, it would be the driver's, whatever the template says.
            "serviceAccount": executor["spec"]["serviceAccountName"],
            "labels": executor["metadata"]["labels"],
            "template": {"spec": executor["spec"]},
        },
    }
    revision = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:10]
    driver["labels"] = {**labels, REVISION_LABEL: revision}
    spec["suspend"] = suspended
    name = child_name(feed, workload.name)
    return manifest("sparkoperator.k8s.io/v1beta2", "SparkApplication", feed, workload.component, name=name, spec=spec)


def _driver_template(template: dict[str, Any]) -> dict[str, Any]:
    """Return a program's pod without what Spark writes itself: image, command and resources."""
    (container,) = template["spec"]["containers"]
    kept = {name: value for name, value in container.items() if name not in _SPARKS_OWN}
    annotations = template["metadata"]["annotations"] | {"kubectl.kubernetes.io/default-container": _DRIVER}
    spec = template["spec"] | {"containers": [kept | {"name": _DRIVER}]}
    return {"metadata": {"annotations": annotations}, "spec": spec}


_SPARKS_OWN = {"image", "imagePullPolicy", "command", "args", "resources"}
