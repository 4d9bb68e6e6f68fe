"""A product's partition is the one that every Kafka client computes from its key."""

import pytest

from fulltape.kafka import partition_of

# Hashes of Kafka's own test of its murmur2 (org.apache.kafka.common.utils.UtilsTest).
KNOWN = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed_hash"), KNOWN.items())
@pytest.mark.parametrize("partitions", [1, 3, 6, 1000, 2**31 - 1])
def test_the_hash_is_kafkas(key: str, signed_hash: int, partitions: int) -> None:
    assert partition_of(key, partitions) == (signed_hash & 0x7FFFFFFF) % partitions
