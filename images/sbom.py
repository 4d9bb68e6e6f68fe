"""Writes what an image is made of, as a CycloneDX 1.6 bill of materials: Debian's packages, Python's and Java's.

Runs inside the image, with nothing but Python: ``python3 sbom.py NAME FILE``.
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

_JAR = re.compile(r"(?P<name>.+?)-(?P<version>\d[\w.+-]*)\.jar")


def bill(name: str) -> dict[str, Any]:
    """Return the bill of materials of this file system."""
    parts = sorted([*_debian(), *_python(), *_java()], key=lambda part: str(part["bom-ref"]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name}},
        "components": parts,
    }


def _component(kind: str, name: str, version: str, **more: Any) -> dict[str, Any]:
    package = f"pkg:{kind}/{name}@{version}"
    return {"type": "library", "bom-ref": package, "purl": package, "name": name, "version": version, **more}


def _debian() -> Iterator[dict[str, Any]]:
    listed = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${Version}\n"], capture_output=True, text=True, check=True
    )
    for line in listed.stdout.splitlines():
        name, version = line.split()
        yield _component("deb/debian", name, version)


def _python() -> Iterator[dict[str, Any]]:
    for found in distributions():
        yield _component("pypi", found.name.lower().replace("_", "-"), found.version)


def _java() -> Iterator[dict[str, Any]]:
    """Return the jars, by the names of their files and with their checksums: their groups stand nowhere."""
    for path in sorted(Path("/opt").rglob("*.jar")):
        if match := _JAR.fullmatch(path.name):
            checksum = {"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}
            yield _component("generic", match["name"], match["version"], hashes=[checksum])


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(bill(sys.argv[1]), indent=1) + "\n")
