"""Which shard of the producer reads which product: rendezvous hashing, so that a change of the count moves few.

Source: D. Thaler and C. Ravishankar, "A Name-Based Mapping Scheme for Rendezvous" (1996).
"""

from collections.abc import Iterable
from hashlib import blake2b


def shard_of(product: str, shards: int) -> int:
    """Return the shard, from 0 to ``shards`` - 1, that reads ``product``: the one whose hash with it is highest.

    Adding shard n moves only the products that the new one wins, 1/(n+1) of them on average.
    """
    return max(range(shards), key=lambda shard: (blake2b(f"{shard}/{product}".encode(), digest_size=8).digest(), shard))


def products_of(shard: int, shards: int, products: Iterable[str]) -> list[str]:
    """Return those of ``products`` that ``shard`` reads, in their order."""
    return [product for product in products if shard_of(product, shards) == shard]
