"""Why a query ended decides whether its checkpoint may be given up."""

import pytest

from fulltape_spark.stream import may_be_lost_executor, spares_checkpoint


@pytest.mark.parametrize(
    "failure",
    [
        "[CONCURRENT_STREAM_LOG_UPDATE] Concurrent update to the log. Multiple streaming jobs detected for 17.",
        "java.util.ConcurrentModificationException: Multiple streaming queries are concurrently using s3a://b/offsets/17",
        "org.apache.hadoop.fs.s3a.RemoteFileChangedException: Writing Object on offsets/17: Status Code: 412",
    ],
)
def test_a_batch_that_another_driver_ended_first_is_no_fault_of_the_checkpoint(failure: str) -> None:
    assert spares_checkpoint(failure)


def test_a_damaged_file_is() -> None:
    assert not spares_checkpoint("java.lang.IllegalStateException: Malformed log file offsets/17")


def test_what_kafka_refuses_is_no_fault_of_the_checkpoint() -> None:
    kafka = "org.apache.kafka.common.errors"
    assert spares_checkpoint(f"{kafka}.InvalidConfigurationException: No matching PRIVATE KEY entries in PEM file")
    assert spares_checkpoint(f"{kafka}.TopicAuthorizationException: Not authorized to access topics: [desk.panes]")
    assert spares_checkpoint(f"{kafka}.SaslAuthenticationException: Authentication failed")
    assert not spares_checkpoint("java.lang.IllegalStateException: Malformed log file offsets/17")


def test_a_lost_executor_is_told_from_a_damaged_file() -> None:
    lost = "ExecutorLostFailure (executor 2 exited caused by one of the running tasks) Reason: Command exited with 137"
    peer = "org.apache.spark.SparkException: Connection to streaming shuffle writer 4 closed before termination"
    assert may_be_lost_executor(lost)
    few = "[CONCURRENT_SCHEDULER_INSUFFICIENT_SLOT] Cannot run the pipelined stage group: it needs 4 concurrent tasks"
    assert may_be_lost_executor(peer)
    assert may_be_lost_executor(few)
    assert not may_be_lost_executor("java.lang.IllegalStateException: Malformed log file offsets/17")
