"""The commands that need a feed file or the schemas and nothing else: ``fulltape validate`` and ``fulltape schema``."""

import json
from pathlib import Path

import click

from fulltape.errors import FeedError
from fulltape.feed.load import load_feed
from fulltape.feed.reference import feed_markdown, feed_schema
from fulltape.schema import messages_json_schema, messages_markdown


@click.command("validate")
@click.argument("feeds", metavar="FEED...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_context
def validate_command(context: click.Context, feeds: tuple[Path, ...]) -> None:
    """Check CryptoFeed files: a line for each that is right, a line for each mistake otherwise.

    Exits with 2 if there is a mistake in any.
    """
    wrong = False
    for path in feeds:
        try:
            feed = load_feed(path)
        except FeedError as error:
            click.echo(error, err=True)
            wrong = True
        else:
            click.echo(
                f"{path}: OK: {feed.metadata.namespace}/{feed.metadata.name}, {len(feed.spec.products)} products, "
                f"{len(feed.spec.alerts)} alerts"
            )
    if wrong:
        context.exit(FeedError.exit_code)


@click.command("schema")
@click.option("--feed", is_flag=True, help="Of the CryptoFeed instead of the messages.")
@click.option("--markdown", is_flag=True, help="As documentation instead of JSON Schema.")
def schema_command(*, feed: bool, markdown: bool) -> None:
    """Print the JSON Schema of the messages on Kafka, or of the CryptoFeed."""
    if markdown:
        click.echo(feed_markdown() if feed else messages_markdown(), nl=False)
    else:
        click.echo(json.dumps(feed_schema() if feed else messages_json_schema(), indent=2))
