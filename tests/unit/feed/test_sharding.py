"""Sharding: every product has one reader, and another shard moves few of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulltape.feed.sharding import products_of, shard_of

PRODUCTS = [f"P{number}-USD" for number in range(1000)]


@given(st.integers(1, 20), st.sets(st.text(min_size=1), max_size=20))
def test_each_product_belongs_to_exactly_one_shard(shards: int, products: set[str]) -> None:
    ordered = sorted(products)
    assert sorted(p for shard in range(shards) for p in products_of(shard, shards, ordered)) == ordered


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 9])
def test_one_more_shard_moves_only_what_the_new_one_takes(shards: int) -> None:
    moved = [product for product in PRODUCTS if shard_of(product, shards) != shard_of(product, shards + 1)]
    assert all(shard_of(product, shards + 1) == shards for product in moved)
    assert len(moved) < 1.3 * len(PRODUCTS) / (shards + 1)


def test_the_assignment_never_changes_between_versions() -> None:
    assert [shard_of(product, 3) for product in ("BTC-USD", "ETH-USD", "SOL-USD", "LINK-USD")] == [2, 2, 1, 2]
