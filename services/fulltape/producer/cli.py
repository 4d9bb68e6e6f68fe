"""`fulltape producer --feed FILE`: runs one shard of a feed's producer until it is told to stop."""

import os
from pathlib import Path

import click
import uvloop

from fulltape.errors import ConfigurationError
from fulltape.feed.load import load_feed
from fulltape.feed.model import CryptoFeed
from fulltape.feed.sharding import products_of
from fulltape.kafka import prepare_kafka
from fulltape.producer.service import ProducerService, ProducerSettings
from fulltape.telemetry import configure_logging, run_until_told
from fulltape.workloads import REST_VARIABLE, WEBSOCKET_VARIABLE


@click.command("producer")
@click.option("--feed", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The CryptoFeed file.")
@click.option("--shard", type=int, default=0, envvar="FULLTAPE_SHARD", show_default=True, help="Which replica this is.")
@click.option("--websocket-url", envvar=WEBSOCKET_VARIABLE, help="An exchange in place of the feed's.")
@click.option("--rest-url", envvar=REST_VARIABLE, help="Its REST API.")
@click.option("--host", default="127.0.0.1", envvar="FULLTAPE_HOST", show_default=True, help="Where to serve metrics.")
@click.option("--port", default=0, envvar="FULLTAPE_PORT", help="Port for metrics and probes; 0 takes a free one.")
def producer_command(
    *, feed: Path, shard: int, websocket_url: str | None, rest_url: str | None, host: str, port: int
) -> None:
    """Read trades from the exchange and write each once, in order, to the feed's tape."""
    configure_logging()
    settings = producer_settings(
        load_feed(feed), shard, websocket_url=websocket_url, rest_url=rest_url, host=host, port=port
    )
    uvloop.run(run_until_told(lambda: ProducerService(settings)))


def producer_settings(
    feed: CryptoFeed, shard: int, *, websocket_url: str | None, rest_url: str | None, host: str, port: int
) -> ProducerSettings:
    """Work out what one shard of ``feed`` does, and make its topics where that is the producer's task.

    Raises:
        ConfigurationError: there is no such shard, or the credentials can't be read.
        KafkaUnavailableError: no broker answers, or it refuses.

    """
    spec = feed.spec
    if not 0 <= shard < spec.producer.replicas:
        raise ConfigurationError(f"there is no shard {shard}: spec.producer.replicas is {spec.producer.replicas}")
    kafka = prepare_kafka(feed, os.environ)
    start = spec.producer.start
    return ProducerSettings(
        websocket_url=websocket_url or spec.endpoints.websocket,
        rest_url=rest_url or spec.endpoints.rest,
        products=products_of(shard, spec.producer.replicas, spec.products),
        channels=spec.channels,
        connections=spec.producer.connections,
        topics=feed.topics,
        kafka=kafka,
        owner=f"{shard}-of-{spec.producer.replicas}",
        since_seconds=start.since.seconds if start.since is not None else None,
        first_ids=start.trade_ids or {},
        host=host,
        port=port,
    )
