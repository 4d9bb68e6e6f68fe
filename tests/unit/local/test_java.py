"""Java is found, asked for its version, and asked for in words that help where there is none."""

from pathlib import Path

import pytest

from fulltape.errors import ConfigurationError
from fulltape.local import java

DEBIAN_17 = """openjdk version "17.0.15" 2025-04-15
OpenJDK Runtime Environment (build 17.0.15+6-Debian-1deb12u1)
OpenJDK 64-Bit Server VM (build 17.0.15+6-Debian-1deb12u1, mixed mode, sharing)
"""
TEMURIN_8 = """openjdk version "1.8.0_412"
OpenJDK Runtime Environment (Temurin)(build 1.8.0_412-b08)
OpenJDK 64-Bit Server VM (Temurin)(build 25.412-b08, mixed mode)
"""
EARLY_26 = """openjdk version "26-ea" 2026-03-17
OpenJDK Runtime Environment (build 26-ea+10-1001)
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEBIAN_17, (17, "17.0.15+6-Debian-1deb12u1")),
        (TEMURIN_8, (8, "1.8.0_412-b08")),
        (EARLY_26, (26, "26-ea+10-1001")),
        ("Picked up JAVA_TOOL_OPTIONS: -Dx=y\n" + DEBIAN_17, (17, "17.0.15+6-Debian-1deb12u1")),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
    ],
)
def test_version_and_build_are_read_from_what_java_says(text: str, expected: tuple[int, str] | None) -> None:
    assert java.parse_version(text) == expected


def fake_java(folder: Path, says: str) -> Path:
    """Make a program that answers as a Java would."""
    executable = folder / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\n/bin/cat >&2 <<'END'\n{says}\nEND\n")
    executable.chmod(0o755)
    return executable


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave only JAVA_HOME and PATH to look in."""
    monkeypatch.setattr(java, "_INSTALLED", ())


@pytest.mark.usefixtures("nothing_installed")
def test_a_new_enough_java_on_path_is_used_where_java_home_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = fake_java(tmp_path / "fake-8", TEMURIN_8), fake_java(tmp_path / "fake-17", DEBIAN_17)
    monkeypatch.setenv("JAVA_HOME", str(old.parents[1]))
    monkeypatch.setenv("PATH", str(new.parent), prepend=":")
    assert java.find_java() == java.Java(new, 17, "17.0.15+6-Debian-1deb12u1")


@pytest.mark.usefixtures("nothing_installed")
def test_an_error_names_what_was_found_and_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_java(tmp_path / "fake-8", TEMURIN_8)
    monkeypatch.setenv("JAVA_HOME", str(old.parents[1]))
    monkeypatch.setenv("PATH", "/usr/bin-that-is-not")
    with pytest.raises(ConfigurationError, match=r"Java 17 or later.*fake-8.*\(version 8\).*install"):
        java.find_java()


@pytest.mark.usefixtures("nothing_installed")
def test_a_java_home_that_holds_no_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "broken"))
    monkeypatch.setenv("PATH", "/usr/bin-that-is-not")
    with pytest.raises(ConfigurationError, match=r"broken/bin/java \(does not run\)"):
        java.find_java()
