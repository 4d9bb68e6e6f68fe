"""What integration tests share: one broker for the whole session, and names that no other test uses."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from fulltape.local.kafka import EmbeddedKafka


@pytest.fixture(scope="session")
def kafka() -> Iterator[EmbeddedKafka]:
    """Give the session's broker; tests that stop or kill one start their own."""
    with EmbeddedKafka() as broker:
        yield broker


@pytest.fixture
def topic_prefix() -> str:
    """Give a prefix under which no other test has topics, groups or transactional ids."""
    return f"test-{uuid4().hex[:12]}"
