"""What a cluster's administrator decides for all feeds: images, where pods may run, and what the cluster offers.

The Helm chart writes it as a file from its values; ``fulltape render`` and ``fulltape diff`` read the same file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from fulltape import __version__
from fulltape.errors import ConfigurationError
from fulltape.feed.model import dotted


class _PlatformModel(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, populate_by_name=True, use_attribute_docstrings=True
    )


class Images(_PlatformModel):
    """The two images that feeds run, by digest or tag."""

    services: str = f"fulltape:{__version__}"
    """Producer, monitor, dashboard and loader."""
    spark: str = f"fulltape-spark:{__version__}"
    """The Spark applications, drivers and executors."""


class S3(_PlatformModel):
    """How programs reach S3, where that is not Amazon's, or where pods take no role on AWS."""

    endpoint: str = ""
    """Address of an S3 server other than Amazon's."""
    region: str = ""
    """Its region."""
    secret_name: str = ""
    """A Secret in the feeds' namespaces whose key ``credentials`` is a credentials file as Amazon's clients read it."""


class Platform(_PlatformModel):
    """What all feeds of a cluster share. Fields of pods are as Kubernetes has them."""

    images: Images = Images()
    """The images of the feeds' programs."""
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When nodes fetch images."""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets in the feeds' namespaces with which nodes fetch images."""
    service_account_annotations: Mapping[str, str] = {}
    """Annotations of the ServiceAccounts of feeds, such as the role that pods take on AWS."""
    s3: S3 = S3()
    """How the programs that use S3 reach it."""
    node_selector: Mapping[str, str] = {}
    """Labels of nodes that pods may run on."""
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """Taints of nodes that pods tolerate."""
    affinity: Mapping[str, Any] = {}
    """Where pods would rather run."""
    priority_class_name: str = ""
    """The pods' priority class."""
    pod_monitors: bool = False
    """Whether feeds have a PodMonitor; needs prometheus-operator."""
    prometheus_rules: bool = False
    """Whether feeds have a PrometheusRule; needs prometheus-operator."""
    monitoring_labels: Mapping[str, str] = {}
    """Further labels of PodMonitors and PrometheusRules, by which a Prometheus selects them."""
    network_policies: bool = True
    """Whether feeds have a NetworkPolicy."""
    spark_backend: Literal["native", "kubeflow"] = "native"
    """What runs Spark's drivers: Kubernetes itself, or Kubeflow's Spark operator by SparkApplications."""


def load_platform(path: Path) -> Platform:
    """Read a platform file.

    Raises:
        ConfigurationError: it can't be read, or a field in it is wrong; says which.

    """
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigurationError(
            f"{path}: can't be read: {error.strerror}; give the path of a platform file"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    try:
        return Platform.model_validate(data if data is not None else {}, by_alias=True, by_name=False)
    except ValidationError as error:
        wrong = "; ".join(f"{dotted(part['loc'])}: {part['msg']}" for part in error.errors(include_url=False))
        raise ConfigurationError(f"{path}: {wrong}") from error
