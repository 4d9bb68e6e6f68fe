"""Why a query ended decides whether its checkpoint may be given up."""

import pytest

from fulltape_spark.stream import tells_of_another_driver


@pytest.mark.parametrize(
    "failure",
    [
        "[CONCURRENT_STREAM_LOG_UPDATE] Concurrent update to the log. Multiple streaming jobs detected for 17.",
        "java.util.ConcurrentModificationException: Multiple streaming queries are concurrently using s3a://b/offsets/17",
        "org.apache.hadoop.fs.s3a.RemoteFileChangedException: Writing Object on offsets/17: Status Code: 412",
    ],
)
def test_a_batch_that_another_driver_ended_first_is_no_fault_of_the_checkpoint(failure: str) -> None:
    assert tells_of_another_driver(failure)


def test_a_damaged_file_is() -> None:
    assert not tells_of_another_driver("java.lang.IllegalStateException: Malformed log file offsets/17")
