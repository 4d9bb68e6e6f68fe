"""Finds a Java that can run Kafka, and says how to get one where there is none."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fulltape.errors import ConfigurationError

MINIMUM_VERSION = 17
"""Kafka 4's brokers and Spark 4 need this."""

_INSTALLED = (
    ("/opt/homebrew/opt", "openjdk*/bin/java"),
    ("/usr/local/opt", "openjdk*/bin/java"),
    ("/usr/lib/jvm", "*/bin/java"),
)
"""Where package managers put a Java: Homebrew's is not on PATH, and Linux's PATH may hold an older one."""


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that was asked for its version."""

    executable: Path
    version: int
    """Feature version, such as 17."""
    build: str
    """The full build, such as ``17.0.15+6-Debian-1deb12u1``: class archives belong to one build."""


def find_java() -> Java:
    """Return the first usable Java of JAVA_HOME, PATH and the places where package managers put one.

    Raises:
        ConfigurationError: none is of `MINIMUM_VERSION` or later; says what was found and how to install one.

    """
    unusable = []
    for executable in dict.fromkeys(_candidates()):
        java = ask_version(executable)
        if java is not None and java.version >= MINIMUM_VERSION:
            return java
        unusable.append(f"{executable} ({f'version {java.version}' if java else 'does not run'})")
    found = f"found only {', '.join(unusable)}" if unusable else "found none in JAVA_HOME and on PATH"
    raise ConfigurationError(f"Kafka needs Java {MINIMUM_VERSION} or later; {found}; {_mend()}")


def parse_version(text: str) -> tuple[int, str] | None:
    """Return the feature version and the build in what ``java -version`` says; None where it says neither."""
    version = re.search(r'version "(?:1\.)?(\d+)', text)
    if version is None:
        return None
    build = re.search(r"Runtime Environment.*\(build ([^,)]+)", text)
    return int(version[1]), build[1] if build else version[1]


def ask_version(executable: Path) -> Java | None:
    """Run ``java -version``; None where that fails, as macOS's placeholder at /usr/bin/java does."""
    try:
        answer = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    parsed = parse_version(answer.stderr)  # -version goes to stderr, whatever the vendor
    return Java(executable, *parsed) if parsed else None


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if found := shutil.which("java"):
        yield Path(found)
    for folder, pattern in _INSTALLED:
        yield from sorted(Path(folder).glob(pattern))


def _mend() -> str:
    if sys.platform == "darwin":
        return "install it with: brew install openjdk@17"
    return "install it with: apt-get install openjdk-17-jre-headless (or set JAVA_HOME)"
