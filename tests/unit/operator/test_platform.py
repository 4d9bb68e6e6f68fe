"""The platform file: what an administrator may write, and what is said of a mistake."""

from pathlib import Path

import pytest

from fulltape.errors import ConfigurationError
from fulltape_operator.platform import Platform, load_platform


def load(folder: Path, text: str) -> Platform:
    file = folder / "platform.yaml"
    file.write_text(text)
    return load_platform(file)


@pytest.mark.parametrize("text", ["", "{}", "# nothing but a comment\n"])
def test_an_empty_file_is_all_defaults(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == Platform()


def test_every_field_is_read(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        """
images: {services: "registry.example/fulltape@sha256:1", spark: "registry.example/fulltape-spark@sha256:2"}
imagePullPolicy: Always
imagePullSecrets: [regcred]
serviceAccountAnnotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::123456789012:role/feeds"}
s3: {endpoint: "http://minio.storage:9000", region: eu-central-1, secretName: s3}
nodeSelector: {disk: fast}
tolerations: [{key: market-data, operator: Exists}]
affinity: {nodeAffinity: {}}
priorityClassName: market-data
podMonitors: true
prometheusRules: true
monitoringLabels: {release: prometheus}
networkPolicies: false
sparkBackend: kubeflow
""",
    )
    assert found.model_fields_set == Platform.model_fields.keys()
    assert found.images.spark == "registry.example/fulltape-spark@sha256:2"
    assert found.tolerations == ({"key": "market-data", "operator": "Exists"},)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("podMonitor: true", ["podMonitor", "not permitted"]),
        ("pod_monitors: true", ["pod_monitors", "not permitted"]),
        ("images: {service: a}", ["images.service", "not permitted"]),
        ("imagePullPolicy: Sometimes", ["imagePullPolicy", "'IfNotPresent', 'Always' or 'Never'"]),
        ("sparkBackend: apache", ["sparkBackend", "'native' or 'kubeflow'"]),
        ("imagePullSecrets: regcred", ["imagePullSecrets", "tuple"]),
        ("imagePullSecrets: [{name: regcred}]", ["imagePullSecrets[0]", "string"]),
        ("podMonitors: perhaps", ["podMonitors", "boolean"]),
        ("nodeSelector: {disk: 1}", ["nodeSelector.disk", "string"]),
        ("podMonitor: 1\nnodeSelectors: 2", ["podMonitor", "nodeSelectors"]),
        ("a: [", ["is not YAML"]),
        ("- a list", ["dictionary"]),
    ],
)
def test_a_mistake_is_refused_with_the_name_of_its_field(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, text)
    assert "platform.yaml" in str(refused.value)
    assert all(word in str(refused.value) for word in words)


def test_a_file_that_is_not_there_or_is_no_text_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be read: No such file"):
        load_platform(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="is not YAML"):
        load_platform(tmp_path / "binary.yaml")
