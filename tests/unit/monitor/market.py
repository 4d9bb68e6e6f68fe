"""Synthetic panes for the monitor's tests: trades drawn by a seed, summed up second by second as the panes are."""

import json
import math
import random
from collections.abc import Iterator, Sequence
from decimal import Decimal

from fulltape.feed.load import parse_feed
from fulltape.feed.model import CryptoFeed
from fulltape.messages import Pane

SECOND_US = 1_000_000
NOON = 1_760_100_000
"""A second from which the tests count, a multiple of a minute."""


def make_feed(
    products: Sequence[str] = ("BTC-USD",),
    *,
    windows: Sequence[str] = ("1m", "5m"),
    slide: str = "1s",
    watermark: str = "10m",
    name: str = "test",
    channels: Sequence[str] = ("matches", "ticker"),
    alerts: Sequence[dict[str, object]] = (),
) -> CryptoFeed:
    feed = {
        "apiVersion": "fulltape.dev/v1alpha1",
        "kind": "CryptoFeed",
        "metadata": {"name": name},
        "spec": {
            "products": list(products),
            "channels": list(channels),
            "kafka": {
                "bootstrapServers": "127.0.0.1:9092",
                "topics": {"partitions": 3, "replicas": 1, "retention": "24h"},
            },
            "analytics": {"windows": list(windows), "slide": slide, "watermark": watermark},
            "alerts": list(alerts),
        },
    }
    return parse_feed(json.dumps(feed).encode(), name)


class Market:
    """One product's trades; `versions` yields a pane anew for every trade, as the panes come."""

    def __init__(self, product: str = "BTC-USD", seed: int = 1) -> None:
        self.product = product
        self._random = random.Random(seed)
        self._next_id = 1_000_001
        self._price = Decimal("65000.00")
        self._previous: Decimal | None = None
        self._second_previous: Decimal | None = None

    def versions(self, second: int, trades: int) -> Iterator[Pane]:
        """Yield every version of one second's pane with so many trades."""
        chance = self._random
        sizes: list[Decimal] = []
        prices: list[Decimal] = []
        changes: list[float] = []
        returns: list[float] = []
        pairs: list[float] = []
        bought = Decimal(0)
        before_first = self._previous
        first_id = self._next_id
        peak = trough = Decimal(0)
        fall, fall_peak, fall_trough, rise = 0.0, peak, trough, 0.0
        high_us = low_us = 0
        times = sorted(chance.randrange(SECOND_US) for _ in range(trades))
        for time_us in (second * SECOND_US + offset for offset in times):
            price = self._price = max(Decimal("1.00"), self._price + Decimal(chance.randint(-30, 30)) / 100)
            size = Decimal(chance.randint(1, 10**8)) / 10**8
            if self._previous is not None:
                changes.append(float(price - self._previous))
                returns.append(math.log(float(price) / float(self._previous)))
                if self._second_previous is not None:
                    pairs.append(abs(returns[-1] * math.log(float(self._previous) / float(self._second_previous))))
            self._second_previous, self._previous = self._previous, price
            prices.append(price)
            sizes.append(size)
            bought += size if chance.random() < 0.5 else 0
            if len(prices) == 1 or price >= peak:
                peak, high_us = price, time_us
            if len(prices) == 1 or price <= trough:
                trough, low_us = price, time_us
            if float(peak - price) / float(peak) >= fall:
                fall, fall_peak, fall_trough = float(peak - price) / float(peak), peak, price
            rise = max(rise, float(price - trough) / float(trough))
            mean = math.fsum(map(float, prices)) / len(prices)
            digits = [0] * 9
            for known in sizes:
                digits[int(str(known * 10**8).lstrip("0")[0]) - 1] += 1
            self._next_id += 1
            yield Pane(
                product=self.product,
                start_us=second * SECOND_US,
                trades=len(prices),
                volume=str(sum(sizes)),
                notional=str(sum(p * q for p, q in zip(prices, sizes, strict=True))),
                buy_volume=f"{bought:f}",
                price_mean=mean,
                price_square_deviations=math.fsum((float(p) - mean) ** 2 for p in prices),
                changes=len(changes),
                change_sum=math.fsum(changes),
                change_squares=math.fsum(change**2 for change in changes),
                return_squares=math.fsum(r**2 for r in returns),
                return_fourths=math.fsum(r**4 for r in returns),
                return_pairs=len(pairs),
                bipower=math.fsum(pairs),
                largest_return=max(map(abs, returns), default=0.0),
                open=str(prices[0]),
                high=str(peak),
                low=str(trough),
                close=str(price),
                open_us=second * SECOND_US + times[0],
                high_us=high_us,
                low_us=low_us,
                close_us=time_us,
                previous_price=None if before_first is None else str(before_first),
                drawdown_peak=str(fall_peak),
                drawdown_trough=str(fall_trough),
                run_up=rise,
                mini_crash=0.0,
                largest_size=str(max(sizes)),
                first_id=first_id,
                last_id=self._next_id - 1,
                first_digits=(*digits,),  # type: ignore[arg-type]  # nine of them
                round_sizes=0,
                received_us=time_us + 20_000,
                tape_us=time_us + 25_000,
            )

    def pane(self, second: int, trades: int) -> Pane:
        """Return the last version of one second's pane."""
        return list(self.versions(second, trades))[-1]


def pane_time_us(pane: Pane) -> int:
    """Return when a version was written, as the tests have it."""
    return pane.close_us + 30_000
