"""The platform file: what it may say, and what is said of a mistake in it."""

from pathlib import Path

import pytest

from fulltape.errors import ConfigurationError
from fulltape_operator.platform import Platform, load_platform


def test_an_empty_file_takes_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "platform.yaml"
    path.write_text("")
    assert load_platform(path) == Platform()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("podMonitor: true", "podMonitor"),
        ("images: {service: x}", "images.service"),
        ("imagePullPolicy: Sometimes", "imagePullPolicy"),
        ("images: [", "is not YAML"),
        ("[1, 2]", "valid dictionary"),
    ],
)
def test_a_mistake_is_told_with_its_field(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "platform.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        load_platform(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml: can't be read"):
        load_platform(tmp_path / "nowhere.yaml")
