"""Clients are held to a burst and a rate, each by itself."""

from fulltape.sandbox.limits import Limit, RateLimiter


def test_a_burst_is_allowed_then_the_rate() -> None:
    limiter = RateLimiter(Limit(per_second=10, burst=15))
    assert [limiter.allows("a", 0.0) for _ in range(16)] == [True] * 15 + [False]
    assert limiter.allows("b", 0.0)
    assert not limiter.allows("a", 0.0625)
    assert limiter.allows("a", 0.125)
    assert [limiter.allows("a", 100.0) for _ in range(16)] == [True] * 15 + [False]
