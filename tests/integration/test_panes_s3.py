"""A stream with its checkpoint on S3 goes on as one with a folder does: a real Spark, and an S3 server of this machine.

One stream is driven through the tests in order.
"""

from collections.abc import Iterator

import pytest

from fulltape.bench.stage import delete_topics, wait_until
from fulltape.local.kafka import EmbeddedKafka
from fulltape_spark.checkpoint import OTHERWISE
from tests.integration.market import SECOND_US, now_us
from tests.integration.panes import Stage
from tests.redshift.s3 import ObjectStore

pytestmark = pytest.mark.integration

BUCKET = "panes-checkpoints"


@pytest.fixture(scope="module")
def stage(kafka: EmbeddedKafka, s3: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    s3.make_bucket(BUCKET)
    stage = Stage(kafka, tmp_path_factory.mktemp("panes-s3"), s3.environment)
    yield stage
    stage.program.kill()
    delete_topics(kafka.bootstrap_servers, stage.feed)


@pytest.fixture(scope="module")
def place(stage: Stage) -> str:
    return f"s3a://{BUCKET}/{stage.feed.metadata.name}/panes-0"


def folders(store: ObjectStore, place: str) -> set[str]:
    """Return the addresses of Spark's checkpoints at a place."""
    prefix = place.removeprefix(f"s3a://{BUCKET}/") + "/spark/"
    pages = store.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    keys = [found["Key"].removeprefix(prefix) for page in pages for found in page.get("Contents", ())]
    found = {key.partition("/")[0] for key in keys}
    return {f"{place}/spark/{folder}" for folder in found if folder}


def test_without_its_bucket_it_ends_and_says_what_to_do(stage: Stage) -> None:
    stage.launch(checkpoint="s3a://absent/panes-0")
    assert stage.program.wait(120) == 2
    assert "there is no bucket absent; make it, or name another in spec.analytics.checkpoint.uri" in stage.said()


def test_after_kill_9_the_checkpoint_gives_the_same_panes(stage: Stage, s3: ObjectStore, place: str) -> None:
    stage.start(checkpoint=place)
    second_us = now_us()
    stage.market.burst(500, second_us, seconds=2)
    stage.assert_panes_become_those_of_the_market()
    wait_until(lambda: stage.program.metric("fulltape_panes_batch") >= 1, "a checkpoint was written", seconds=120)
    stage.program.kill()
    stage.market.burst(500, second_us, seconds=2)  # the same seconds, half of whose trades the dead one had counted
    stage.start(checkpoint=place)
    assert f"continuing from the checkpoint in {place}" in stage.said()
    stage.assert_panes_become_those_of_the_market()
    assert s3.environment["AWS_SECRET_ACCESS_KEY"] not in stage.said()


def test_a_stream_that_is_another_now_sets_the_checkpoint_aside(stage: Stage, s3: ObjectStore, place: str) -> None:
    stage.program.kill()
    [before] = folders(s3, place)
    stage.market.burst(300, now_us() - 5 * SECOND_US, seconds=2)
    stage.start(checkpoint=place, FULLTAPE_TRIGGER="micro-batch")
    assert f"can't be continued ({OTHERWISE}); set aside as {before}" in stage.said()
    stage.assert_panes_become_those_of_the_market()
    assert before in folders(s3, place)
    assert len(folders(s3, place)) == 2
