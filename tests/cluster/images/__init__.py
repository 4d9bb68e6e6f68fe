"""The images that a cluster of tests runs: Fulltape's two, Kafka, Alertmanager, Prometheus and an S3 server."""

import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fulltape.local.jars import KAFKA, ensure_jars
from images.build import IMAGES, ROOT, Builder
from tests.cluster.containers import import_archive

TAG = "test"
_FOLDER = Path(__file__).parent
_AT_ONCE = 2
_OF_DEBIAN = ("alertmanager", "prometheus")
"""Packages of Debian's, each with a folder here."""


def build_images() -> Mapping[str, str]:
    """Build all images and return the full name of each.

    Raises:
        ConfigurationError: as `Builder`.

    """
    builder = Builder()
    images = (*IMAGES, "fulltape-kafka", "fulltape-s3", *(f"fulltape-{package}" for package in _OF_DEBIAN))
    names = {image: f"localhost/{image}:{TAG}" for image in images}  # as buildah calls them; the manifests do too
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # much of a build is waiting for packages
        # What takes longest comes first.
        builds = [
            pool.submit(_build_spark_and_kafka, builder, names),
            pool.submit(builder.build, names["fulltape"], IMAGES["fulltape"], ROOT),
            pool.submit(_build_s3, builder, names["fulltape-s3"]),
        ]
        for package in _OF_DEBIAN:
            folder = _FOLDER / package
            builds.append(pool.submit(builder.build, names[f"fulltape-{package}"], folder / "Dockerfile", folder))
        for build in builds:
            build.result()
    return names


def _build_spark_and_kafka(builder: Builder, names: Mapping[str, str]) -> None:
    builder.build(names["fulltape-spark"], IMAGES["fulltape-spark"], ROOT)
    jars = ensure_jars(KAFKA)
    with tempfile.TemporaryDirectory() as folder:
        # The folder of one set of jars alone, under the name that it has in the cache.
        (Path(folder) / KAFKA.name).mkdir()
        for jar in jars:
            (Path(folder) / KAFKA.name / jar.name).hardlink_to(jar)
        dockerfile = _FOLDER / "kafka" / "Dockerfile"
        builder.build(names["fulltape-kafka"], dockerfile, Path(folder), {"SPARK_IMAGE": names["fulltape-spark"]})


def _build_s3(builder: Builder, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / "requirements.lock", folder)
        builder.build(name, _FOLDER / "s3" / "Dockerfile", Path(folder))


def load_images(names: Mapping[str, str], node_programs: Path) -> None:
    """Give the node of this machine the images.

    Args:
        names: as `build_images` returns them.
        node_programs: folder of ctr.

    Raises:
        ConfigurationError: they can't be read or written.

    """
    with tempfile.TemporaryDirectory(prefix="fulltape-images-") as folder:
        archive = Path(folder) / "images.tar"
        Builder().save_together(names.values(), archive)
        import_archive(node_programs, archive)
