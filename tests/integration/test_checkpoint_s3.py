"""What is kept on S3 beside Spark's own files, and who may replace it: by Hadoop's client, against a server."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from fulltape.errors import ConfigurationError
from fulltape_spark.checkpoint import OTHERWISE, Beginning
from fulltape_spark.checkpoint_s3 import CheckpointPrefix, CheckpointTakenError, s3_settings
from fulltape_spark.session import Spark
from tests.redshift.s3 import ObjectStore

pytestmark = pytest.mark.integration

BUCKET = "checkpoints"
BEGINNING = Beginning("the same", {"0": 17, "1": 4}, 1_000_000)

Opener = Callable[[], CheckpointPrefix]


@pytest.fixture(scope="module")
def spark(s3: ObjectStore) -> Iterator[Spark]:
    s3.make_bucket(BUCKET)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        with Spark(1, s3_settings(os.environ), 512, with_s3=True) as spark:
            yield spark


@pytest.fixture
def prefix() -> str:
    return uuid4().hex


@pytest.fixture
def opened(spark: Spark, prefix: str) -> Opener:
    """Give a way to open the same prefix, as each start of a stream does."""
    return lambda: CheckpointPrefix(f"s3a://{BUCKET}/{prefix}/", spark.session)


def test_what_was_begun_is_read_back(opened: Opener) -> None:
    first, second = opened(), opened()
    assert first.read("the same") is None
    first.begin(BEGINNING)
    assert second.read("the same") == BEGINNING
    assert second.spark == first.spark
    assert second.read("another") == OTHERWISE


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}"])
def test_a_damaged_beginning_is_said_and_makes_room(
    opened: Opener, s3: ObjectStore, prefix: str, content: bytes
) -> None:
    opened().begin(BEGINNING)
    s3.client.put_object(Bucket=BUCKET, Key=f"{prefix}/beginning.json", Body=content)
    checkpoint = opened()
    assert "beginning.json" in str(checkpoint.read("the same"))
    checkpoint.set_aside()
    checkpoint.begin(BEGINNING)
    assert opened().read("the same") == BEGINNING


def test_of_those_set_aside_the_last_is_kept(opened: Opener, s3: ObjectStore, prefix: str) -> None:
    states = []
    for content in (b"first", b"second", b"third"):
        checkpoint = opened()
        checkpoint.read("the same")
        checkpoint.set_aside()
        checkpoint.begin(BEGINNING)
        states.append(f"{checkpoint.spark}/state".removeprefix(f"s3a://{BUCKET}/"))
        s3.client.put_object(Bucket=BUCKET, Key=states[-1], Body=content)
    found = s3.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/")["Contents"]
    # A key that ends so stands for a folder, and holds nothing.
    assert {one["Key"] for one in found if not one["Key"].endswith("/")} == {f"{prefix}/beginning.json", *states[1:]}


def test_of_two_that_begin_at_the_same_time_one_is_refused(opened: Opener) -> None:
    for _ in ("where there is none", "in place of one"):
        one, other = opened(), opened()
        one.read("another")
        other.read("another")
        one.begin(BEGINNING)
        with pytest.raises(CheckpointTakenError, match="another process has taken this stream over"):
            other.begin(BEGINNING)
        one.confirm()


def test_who_continues_takes_over_and_who_had_it_is_told(opened: Opener) -> None:
    first, second = opened(), opened()
    first.read("the same")
    first.begin(BEGINNING)
    assert second.read("the same") == BEGINNING
    second.confirm()
    with pytest.raises(CheckpointTakenError, match="another process has taken this stream over"):
        first.confirm()


def test_a_local_file_arrives_as_the_snapshots_of_state_do(spark: Spark, s3: ObjectStore, tmp_path: Path) -> None:
    content = os.urandom(2_000_000)
    (tmp_path / "000012.sst").write_bytes(content)
    java_path = spark.jvm.org.apache.hadoop.fs.Path
    there = java_path(f"s3a://{BUCKET}/{uuid4().hex}/SSTs/000012.sst")
    files = there.getFileSystem(spark.session.sparkContext._jsc.hadoopConfiguration())
    files.copyFromLocalFile(java_path(f"file://{tmp_path}/000012.sst"), there)
    key = there.toUri().getPath().removeprefix("/")
    assert s3.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == content


def test_a_bucket_that_is_not_there_is_named(spark: Spark) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no bucket absent; make it, or name another in spec\."):
        CheckpointPrefix("s3a://absent/prefix", spark.session)


def test_credentials_that_are_refused_are_said_with_the_mend(opened: Opener, s3: ObjectStore) -> None:
    with (
        s3.refusing(),
        pytest.raises(ConfigurationError, match="not permitted; give this program credentials that may list"),
    ):
        opened()
    opened()
