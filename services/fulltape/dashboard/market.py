"""What the dashboard knows: per product and window the newest values and 15 minutes of history, trades, alerts. Pure.

Every item notes the version of the market at which it last changed, so that "all that is newer than what you have" is
one question: it serves a browser that just came, one that follows, and one that fell behind, alike.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

import msgspec

from fulltape.dashboard.health import Health, HealthReport, recent_rate
from fulltape.messages import UNDECODABLE, Alert, Gap, TapeRecord, Trade, Window

HISTORY_US = 15 * 60 * 1_000_000
"""How much exchange time the charts go back."""
SPARK_US = 10 * 1_000_000
"""A sparkline has a price for each of these."""
TRADES_KEPT = 50
ALERTS_KEPT = 200

_decode_window = msgspec.json.Decoder(Window).decode
_decode_alert = msgspec.json.Decoder(Alert).decode
_decode_record: msgspec.json.Decoder[TapeRecord] = msgspec.json.Decoder(TapeRecord)
_encode = msgspec.json.Encoder().encode
_GAP_MARK = b'"gap"'
"""Stands in every gap record and in no trade: most records need no decoding to be told apart."""


class Batch(NamedTuple):
    """What one look at Kafka found, no more of it than can matter."""

    windows: Mapping[bytes, bytes]
    """Newest message by key: versions in between are superseded."""
    window_messages: int
    """How many there were."""
    trades: Mapping[str, Sequence[bytes]]
    """Up to the last `TRADES_KEPT` records of each product, in order."""
    trade_messages: int
    """How many that are newer than the dashboard's start."""
    gaps: Sequence[bytes]
    """Records that seem to be gaps: every one."""
    alerts: Sequence[bytes]
    loading: bool
    """Whether this is history that is being read back."""

    @property
    def empty(self) -> bool:
        """Whether nothing was found."""
        return not (self.windows or self.trades or self.alerts)


class Point(NamedTuple):
    """A window as a chart shows it."""

    version: int
    price: float
    encoded: msgspec.Raw
    """`POINT_FIELDS` as a JSON array."""


POINT_FIELDS = ("time", "price", "vwap", "volatility", "imbalance", "volume")
"""End of the window in seconds; last price; the measures vwap, annualizedVolatility, orderFlowImbalance; volume."""

ROW_FIELDS = (
    "product",
    "price",
    "change",
    "vwap",
    "volatility",
    "imbalance",
    "volatilityZ",
    "imbalanceZ",
    "rateZ",
    "missing",
    "trades",
    "last_id",
    "trade_us",
    "received_us",
    "tape_us",
    "pane_us",
    "published_us",
    "spark",
)
"""A product in the overview. price is exact; change is a fraction of the window's open; spark is null if unchanged."""


class Series:
    """One product's windows of one length."""

    def __init__(self) -> None:
        self.newest: Window | None = None
        self.version = 0
        self.points: dict[int, Point] = {}
        """By the window's end; the one that changed last is last."""

    def put(self, window: Window, version: int) -> bool:
        """Take a window in; return whether it is the newest."""
        end_us = window.end_us
        newest_us = self.newest.end_us if self.newest is not None else end_us
        if end_us <= newest_us - HISTORY_US:
            return False
        price, measures = float(window.last_price), window.measures
        encoded = _encode(
            (
                end_us // 1_000_000,
                price,
                measures.get("vwap"),
                measures.get("annualizedVolatility"),
                measures.get("orderFlowImbalance"),
                float(window.volume),
            )
        )
        self.points.pop(end_us, None)
        self.points[end_us] = Point(version, price, msgspec.Raw(encoded))
        if end_us < newest_us:
            return False
        self.newest, self.version = window, version
        if end_us > newest_us:
            for past_us in [past_us for past_us in self.points if past_us <= end_us - HISTORY_US]:
                del self.points[past_us]
        return True

    def points_since(self, version: int) -> list[msgspec.Raw]:
        """Return the points that changed after ``version``, in no order."""
        newer = takewhile(lambda point: point.version > version, reversed(self.points.values()))
        return [point.encoded for point in newer]

    def spark(self) -> list[float | None]:
        """Return the price at each multiple of `SPARK_US`, oldest first; None where none is known."""
        if self.newest is None:
            return []
        last_us = self.newest.end_us - self.newest.end_us % SPARK_US
        ends = range(last_us - HISTORY_US + SPARK_US, last_us + 1, SPARK_US)
        points = self.points
        return [point.price if (point := points.get(end)) is not None else None for end in ends]


class Product:
    """All of one product."""

    def __init__(self, windows: Sequence[str]) -> None:
        self.series = {window: Series() for window in windows}
        self.trades: deque[tuple[int, bytes]] = deque(maxlen=TRADES_KEPT)
        self.last_id = 0
        self.spark: list[float | None] = []
        self.spark_version = 0
        self._spark_slot = 0

    @property
    def version(self) -> int:
        """At which anything but trades last changed."""
        return max(series.version for series in self.series.values())

    def draw_spark(self, series: Series, version: int) -> None:
        """Make the sparkline anew when it gains a point."""
        assert series.newest is not None
        slot = series.newest.end_us // SPARK_US
        if slot != self._spark_slot:
            self._spark_slot, self.spark_version, self.spark = slot, version, series.spark()


class AlertEntry(NamedTuple):
    """One firing of an alert, as it stands."""

    version: int
    alert: Alert


class Market:
    """Everything that browsers are shown.

    Args:
        products: the feed's; messages of others are ignored.
        windows: lengths of the feed's windows, as the feed writes them; the first is that of the overview.
        longest: the longest of them, which tells what is missing.
        now_us: this machine's time.

    """

    def __init__(self, products: Sequence[str], windows: Sequence[str], longest: str, now_us: int) -> None:
        self.products = {product: Product(windows) for product in products}
        self.windows = tuple(windows)
        self.version = 0
        self.health = Health(now_us)
        self.alerts: dict[tuple[str, int], AlertEntry] = {}
        """By fingerprint and start; the one that changed last is last."""
        self.loading = True
        self.undecodable = 0
        self.gaps = 0
        self._longest = longest
        self._started_us = now_us

    def apply(self, batch: Batch, now_us: int) -> None:
        """Take in what came."""
        self.version += 1
        self.loading = batch.loading
        self.health.count(batch.trade_messages, 0 if batch.loading else batch.window_messages, now_us)
        for raw in batch.windows.values():
            self._window(raw, now_us)
        for name, records in batch.trades.items():
            product = self.products.get(name)
            if product is not None:
                product.trades.extend((self.version, raw) for raw in records)
        for raw in batch.alerts:
            self._alert(raw)
        for raw in batch.gaps:
            record = self._decoded(raw)
            if isinstance(record, Gap):
                self.gaps += record.last_id - record.first_id + 1

    def report(self, now_us: int, *, kafka: bool, browsers: int) -> HealthReport:
        """Say how the pipeline is doing."""
        health = self.health
        rates = health.rates(now_us)
        newest = [product.series[self._longest].newest for product in self.products.values()]
        return HealthReport(
            trades_per_second=recent_rate(rates),
            rates=rates,
            windows_per_second=health.windows_per_second(now_us),
            stages=health.stages(now_us),
            missing=sum(window.missing for window in newest if window is not None),
            gaps=self.gaps,
            undecodable=self.undecodable,
            quiet_seconds=max(0, now_us - health.last_trade_us) / 1e6,
            loading=self.loading,
            kafka=kafka,
            browsers=browsers,
        )

    def rows_since(self, version: int) -> list[tuple[object, ...]]:
        """Return `ROW_FIELDS` of each product that changed after ``version``."""
        return [
            row
            for name, product in self.products.items()
            if product.version > version and (row := self._row(name, product, version)) is not None
        ]

    def trades_since(self, product: str, version: int) -> list[tuple[int, int, str, str, str]]:
        """Return a product's trades after ``version``, newest first: id, time in us, price, size, taker's side."""
        return [
            (record.trade_id, record.time_us, record.price, record.size, record.taker_side)
            for record in self._records_since(product, version)
            if isinstance(record, Trade)
        ]

    def alerts_since(self, version: int) -> list[Alert]:
        """Return the firings that changed after ``version``, oldest change first."""
        newer = takewhile(lambda entry: entry.version > version, reversed(self.alerts.values()))
        return [entry.alert for entry in newer][::-1]

    def _window(self, raw: bytes, now_us: int) -> None:
        try:
            window = _decode_window(raw)
            product = self.products.get(window.product)
            series = product.series.get(window.window) if product is not None else None
            if product is None or series is None:
                return  # of a feed that had another product or window
            newest = series.put(window, self.version)
        except (*UNDECODABLE, ValueError):
            self.undecodable += 1
            return
        if newest and window.window == self.windows[0]:
            product.draw_spark(series, self.version)
        if window.last_id > product.last_id:
            product.last_id = window.last_id
            if window.published_us >= self._started_us:
                self.health.passed(window, now_us)

    def _alert(self, raw: bytes) -> None:
        try:
            alert = _decode_alert(raw)
        except UNDECODABLE:
            self.undecodable += 1
            return
        if alert.starts_us is None:
            return  # it has not fired
        key = (alert.fingerprint, alert.starts_us)
        self.alerts.pop(key, None)
        self.alerts[key] = AlertEntry(self.version, alert)
        if len(self.alerts) > ALERTS_KEPT:
            over = (key for key, entry in self.alerts.items() if entry.alert.state != "firing")
            del self.alerts[next(over, next(iter(self.alerts)))]

    def _records_since(self, product: str, version: int) -> Iterator[TapeRecord]:
        for at, raw in reversed(self.products[product].trades):
            if at <= version:
                return
            record = self._decoded(raw)
            if record is not None:
                yield record

    def _decoded(self, raw: bytes) -> TapeRecord | None:
        try:
            return _decode_record.decode(raw)
        except UNDECODABLE:
            self.undecodable += 1
            return None

    def _row(self, name: str, product: Product, version: int) -> tuple[object, ...] | None:
        window = product.series[self.windows[0]].newest
        if window is None:
            return None
        longest = product.series[self._longest].newest
        get = window.measures.get
        return (
            name,
            window.last_price,
            float(window.last_price) / float(window.open) - 1 if window.open is not None else None,
            get("vwap"),
            get("annualizedVolatility"),
            get("orderFlowImbalance"),
            get("volatilityZScore"),
            get("orderFlowZScore"),
            get("tradeRateZScore"),
            longest.missing if longest is not None else window.missing,
            window.trades,
            window.last_id,
            window.trade_us,
            window.received_us,
            window.tape_us,
            window.pane_us,
            window.published_us,
            product.spark if product.spark_version > version else None,
        )


def is_gap(raw: bytes) -> bool:
    """Tell, at a glance, whether a record of the tape may be a gap."""
    return _GAP_MARK in raw
