"""The images that a cluster of tests runs: Fulltape's two, Kafka, Alertmanager, Prometheus and an S3 server."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fulltape.local.jars import KAFKA, ensure_jars
from images.build import IMAGES, ROOT, Builder
from tests.cluster.containers import import_archive

TAG = "test"
_FOLDER = Path(__file__).parent
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
    for image, dockerfile in IMAGES.items():
        builder.build(names[image], dockerfile, ROOT)
    jars = ensure_jars(KAFKA)
    with tempfile.TemporaryDirectory() as folder:
        # The folder of one set of jars alone, under the name that it has in the cache.
        (Path(folder) / KAFKA.name).mkdir()
        for jar in jars:
            (Path(folder) / KAFKA.name / jar.name).hardlink_to(jar)
        builder.build(
            names["fulltape-kafka"],
            _FOLDER / "kafka" / "Dockerfile",
            Path(folder),
            {"SPARK_IMAGE": names["fulltape-spark"]},
        )
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / "requirements.lock", folder)
        builder.build(names["fulltape-s3"], _FOLDER / "s3" / "Dockerfile", Path(folder))
    for package in _OF_DEBIAN:
        builder.build(names[f"fulltape-{package}"], _FOLDER / package / "Dockerfile", _FOLDER / package)
    return names


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
