"""The images that a cluster of tests runs: Fulltape's two, Kafka and Alertmanager."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from fulltape.local.jars import KAFKA, ensure_jars
from images.build import IMAGES, ROOT, Builder
from tests.cluster.containers import import_archive

TAG = "test"
_FOLDER = Path(__file__).parent


def build_images() -> Mapping[str, str]:
    """Build all images and return the full name of each.

    Raises:
        ConfigurationError: as `Builder`.

    """
    builder = Builder()
    names = {image: builder.name(image, TAG) for image in (*IMAGES, "fulltape-kafka", "fulltape-alertmanager")}
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
    builder.build(names["fulltape-alertmanager"], _FOLDER / "alertmanager" / "Dockerfile", _FOLDER / "alertmanager")
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
