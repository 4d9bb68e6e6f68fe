"""Token buckets: how Coinbase limits each of its clients, told apart by IP address."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """So many a second on average, and a burst at once."""

    per_second: float
    burst: int


REST_REQUESTS = Limit(per_second=10, burst=15)
CONNECTION_ATTEMPTS = Limit(per_second=8, burst=20)
CLIENT_MESSAGES = Limit(per_second=100, burst=100)


class RateLimiter:
    """A token bucket for each client."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._buckets: dict[str, tuple[float, float]] = {}

    def allows(self, client: str, now_seconds: float) -> bool:
        """Take a token of the client's, if it has one; ``now_seconds`` by any clock that never goes back."""
        tokens, since_seconds = self._buckets.get(client, (float(self._limit.burst), now_seconds))
        tokens = min(self._limit.burst, tokens + (now_seconds - since_seconds) * self._limit.per_second)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - allowed, now_seconds)
        return allowed
