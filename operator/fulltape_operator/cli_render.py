"""`fulltape render` and `fulltape diff`: what the operator would apply, for who does it by hand or looks first."""

import asyncio
import difflib
import sys
from pathlib import Path

import click
import yaml
from rich.console import Console
from rich.syntax import Syntax

from fulltape.feed.load import load_feed
from fulltape.feed.model import CryptoFeed
from fulltape_operator.cluster import CHILDREN, FEEDS, ApiError, Cluster, connect
from fulltape_operator.desired import desired_state
from fulltape_operator.desired.child import FEED_LABEL, FEED_NAMESPACE_LABEL, Child, Key, Manifest
from fulltape_operator.observed import feed_of_labels
from fulltape_operator.owned import owned
from fulltape_operator.ownership import belonging_to
from fulltape_operator.platform import Platform, load_platform

_platform_option = click.option(
    "--platform", type=click.Path(path_type=Path, dir_okay=False), help="What the cluster offers to feeds."
)
_feed_argument = click.argument("feed", type=click.Path(path_type=Path, dir_okay=False))


@click.command("render")
@_feed_argument
@_platform_option
def render_command(*, feed: Path, platform: Path | None) -> None:
    """Print what the operator would apply for a feed, as YAML, in its order; for GitOps without an operator."""
    children = desired_state(load_feed(feed), _platform(platform))
    text = "".join(f"---\n{_yaml(child.manifest)}" for child in children)
    if sys.stdout.isatty():
        Console().print(Syntax(text, "yaml", background_color="default"))
    else:
        click.echo(text, nl=False)


@click.command("diff")
@_feed_argument
@_platform_option
def diff_command(*, feed: Path, platform: Path | None) -> None:
    """Show what applying a feed would change in the cluster of KUBECONFIG; exit code 1 where it would change something.

    Compared is what the operator owns of each object; what others added to it stays in any case.
    """
    lines = asyncio.run(_differences(load_feed(feed), _platform(platform)))
    if not lines:
        click.echo("nothing would change", err=True)
        return
    if sys.stdout.isatty():
        Console().print(Syntax("\n".join(lines), "diff", background_color="default"))
    else:
        click.echo("\n".join(lines))
    sys.exit(1)


async def _differences(feed: CryptoFeed, platform: Platform) -> list[str]:
    metadata = feed.metadata
    async with connect() as cluster:
        live = await cluster.get(FEEDS.path(metadata.namespace, metadata.name))
        there = await _there(cluster, feed)
        lines: list[str] = []
        children = desired_state(feed, platform)
        for child in children:
            wanted = child if live is None else belonging_to(live, child)
            found = there.get(child.key) or await _read(cluster, child)
            lines += _difference(child.key, None if found is None else owned(found), wanted.manifest)
        keys = {child.key for child in children}
        for key, found in there.items():
            if key not in keys and (ours := owned(found)) is not None:
                lines += _difference(key, ours, None)
        return lines


async def _there(cluster: Cluster, feed: CryptoFeed) -> dict[Key, Manifest]:
    """Return the feed's objects in its own namespace."""
    metadata = feed.metadata
    selector = f"{FEED_LABEL}={metadata.name},{FEED_NAMESPACE_LABEL}={metadata.namespace}"
    found: dict[Key, Manifest] = {}
    for resource in CHILDREN.values():
        async for page in cluster.pages(resource, metadata.namespace, selector):
            found |= {Key(resource.kind, metadata.namespace, live["metadata"]["name"]): live for live in page}
    return found


async def _read(cluster: Cluster, child: Child) -> Manifest | None:
    """Return an object that is elsewhere, or that is not labelled as the feed's."""
    key = child.key
    found = await cluster.get(CHILDREN[key.kind].path(key.namespace, key.name))
    if found is not None and feed_of_labels(found) is None:
        raise ApiError(409, "NameTaken", f"{key} exists and is not of this feed; rename one of the two")
    return found


def _difference(key: Key, old: Manifest | None, new: Manifest | None) -> list[str]:
    before, after = ([] if one is None else _yaml(one).splitlines() for one in (old, new))
    return list(
        difflib.unified_diff(
            before,
            after,
            f"{key} (in the cluster)" if before else "/dev/null",
            f"{key} (as rendered)" if after else "/dev/null",
            lineterm="",
        )
    )


def _platform(path: Path | None) -> Platform:
    return load_platform(path) if path else Platform()


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, and no aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        """Write out what stands in two places."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _yaml(manifest: Manifest) -> str:
    return str(yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=1000))
