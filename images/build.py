"""Builds the images, with Docker or, where there is none, with buildah: ``python -m images.build``.

They are named ``fulltape:VERSION`` and ``fulltape-spark:VERSION``; what they are made of is written to
``dist/images/*.cdx.json``. With buildah no registry is asked: the base image comes from Debian's packages.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from fulltape import __version__
from fulltape.errors import ConfigurationError

ROOT = Path(__file__).parents[1]
IMAGES = {"fulltape": ROOT / "images/services/Dockerfile", "fulltape-spark": ROOT / "images/spark/Dockerfile"}

_BASE = "debian:bookworm-slim"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What the published base image says."""
_BILL = "usr/share/sbom.cdx.json"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_JAVA_CERTIFICATES = Path("/etc/ssl/certs/java/cacerts")


class Builder:
    """What builds images: Docker, or buildah.

    Raises:
        ConfigurationError: there is neither.

    """

    def __init__(self) -> None:
        self._docker = has_docker()
        self._base_lock = threading.Lock()
        if not self._docker and not _works("buildah", "--version"):
            raise ConfigurationError(
                "images are built with Docker or buildah, and neither works here; start Docker, or install buildah "
                "and debootstrap"
            )

    def name(self, image: str, tag: str) -> str:
        """Return an image's full name, as pods use it."""
        return f"{image}:{tag}" if self._docker else f"localhost/{image}:{tag}"

    def build(self, name: str, dockerfile: Path, context: Path, arguments: Mapping[str, str] | None = None) -> None:
        """Build an image.

        Args:
            name: as `name` gives it.
            dockerfile: says how.
            context: the folder that it copies from.
            arguments: of the build.

        Raises:
            ConfigurationError: it can't be built; the tool has said why on stderr.

        """
        given = {**self._trust(), **(arguments or {})}
        options = [f"--build-arg={key}={value}" for key, value in given.items()]
        options += [f"--file={dockerfile}", f"--tag={name}", str(context)]
        if self._docker:
            _run("docker", "build", *options)
            return
        with self._base_lock:  # of several builds at a time one makes it
            self._ensure_base()
        sources = {"/run/fulltape-build/ca.pem": _CERTIFICATES, "/run/fulltape-build/cacerts": _JAVA_CERTIFICATES}
        mounts = [f"--volume={source}:{target}:ro" for target, source in sources.items() if target in given.values()]
        # Root in a container needs no more than chroot to build, and has this machine's network.
        _run("buildah", "bud", "--isolation=chroot", "--network=host", "--layers", "--pull-never", *mounts, *options)

    def save(self, name: str, archive: Path) -> None:
        """Write an image to a file that `ctr images import` and `docker load` read.

        Raises:
            ConfigurationError: it can't be written.

        """
        if self._docker:
            _run("docker", "save", f"--output={archive}", name)
        else:
            archive.unlink(missing_ok=True)
            _run("buildah", "push", "--quiet", name, f"docker-archive:{archive}:{name}")

    def save_together(self, names: Iterable[str], archive: Path) -> None:
        """Write images to one file that `ctr images import` reads; what they have in common is in it once.

        Raises:
            ConfigurationError: it can't be written.

        """
        if self._docker:
            _run("docker", "save", f"--output={archive}", *names)
            return
        with tempfile.TemporaryDirectory(prefix="fulltape-images-") as layout:
            for name in names:
                _run("buildah", "push", "--quiet", "--disable-compression", name, f"oci:{layout}:{name}")
            _run("tar", "--create", f"--directory={layout}", f"--file={archive}", ".")

    def bill_of(self, name: str) -> bytes:
        """Return the bill of materials in an image."""
        if self._docker:
            return _output("docker", "run", "--rm", "--entrypoint=cat", name, f"/{_BILL}")
        container = _output("buildah", "from", "--pull-never", name).decode().strip()
        try:
            return (Path(_output("buildah", "mount", container).decode().strip()) / _BILL).read_bytes()
        finally:
            _output("buildah", "rm", container)

    def _trust(self) -> dict[str, str]:
        """Return the arguments that have a build trust what this machine does, where somebody told it whom to trust."""
        if self._docker or "SSL_CERT_FILE" not in os.environ or not _CERTIFICATES.exists():
            return {}
        found = {"SSL_CERT_FILE": "/run/fulltape-build/ca.pem"}
        if _JAVA_CERTIFICATES.exists():
            found["JAVA_TRUST_STORE"] = "/run/fulltape-build/cacerts"
        return found

    def _ensure_base(self) -> None:
        if subprocess.run(["buildah", "inspect", _BASE], capture_output=True, check=False).returncode == 0:
            return
        if not shutil.which("debootstrap") or os.geteuid() != 0:
            raise ConfigurationError(
                f"{_BASE} is made with debootstrap, by root; install debootstrap, or pull the image"
            )
        _tell(f"making {_BASE} from Debian's packages")
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "root"
            _run("debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(root))
            for rubbish in ("var/cache/apt", "var/lib/apt/lists"):
                shutil.rmtree(root / rubbish)
            archive = Path(folder) / "root.tar"
            _run("tar", "--create", f"--directory={root}", f"--file={archive}", ".")
            container = _output("buildah", "from", "scratch").decode().strip()
            _run("buildah", "add", "--quiet", container, str(archive), "/")
            _run("buildah", "config", "--cmd=bash", f"--env=PATH={_PATH}", container)
            _run("buildah", "commit", "--quiet", "--rm", container, f"localhost/{_BASE}")


def has_docker() -> bool:
    """Tell whether this machine runs Docker and this user may use it."""
    return _works("docker", "info")


def _works(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(*command: str) -> None:
    """Run a tool whose words are for a person, on stderr."""
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        raise ConfigurationError(f"{' '.join(command[:2])} failed; what it said is above")


def _output(*command: str) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise ConfigurationError(f"{' '.join(command)}: {done.stderr.decode().strip()}")
    return done.stdout


def _tell(text: str) -> None:
    click.echo(f"images: {text}", err=True)


@click.command()
@click.option("--tag", default=__version__, show_default=True, help="Tag of the images.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "dist/images", help="Folder of what is written.")
@click.option("--archives", is_flag=True, help="Also write the images, as files that ctr and docker load.")
def main(*, tag: str, out: Path, archives: bool) -> None:
    """Build the images and write what they are made of."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        builder = Builder()
        for image, dockerfile in IMAGES.items():
            name = builder.name(image, tag)
            _tell(f"building {name}")
            builder.build(name, dockerfile, ROOT)
            (out / f"{image}.cdx.json").write_bytes(builder.bill_of(name))
            if archives:
                builder.save(name, out / f"{image}.tar")
            click.echo(name)
    except ConfigurationError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
