"""`fulltape topics`: what becomes of a feed's topics on a Kafka that no operator of its own looks after."""

import os
from pathlib import Path

import click

from fulltape.errors import ConfigurationError
from fulltape.feed.load import load_feed
from fulltape.kafka import client_configuration, delete_topics, kafka_settings, topic_specs


@click.group("topics")
def topics_group() -> None:
    """Look after a feed's topics."""


@topics_group.command("delete")
@click.option("--feed", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The CryptoFeed file.")
def delete_command(*, feed: Path) -> None:
    """Delete a feed's topics for good, with all that is in them. Stop its programs first: they would make them anew."""
    loaded = load_feed(feed)
    if loaded.spec.kafka.topics_managed_by != "Admin":
        raise ConfigurationError("Strimzi manages this feed's topics; delete its KafkaTopic resources")
    names = [topic.name for topic in topic_specs(loaded)]
    deleted = delete_topics(client_configuration(kafka_settings(loaded, os.environ)), names)
    click.echo(f"deleted {', '.join(deleted) or 'nothing: there are none'}")
