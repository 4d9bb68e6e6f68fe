"""The frames that browsers are sent, as JSON text: everything of a view that is newer than what a browser has. Pure."""

from typing import Any

import msgspec

from fulltape import __version__
from fulltape.dashboard.health import BUCKETS, FIRST_US, PER_OCTAVE, STAGES, HealthReport
from fulltape.dashboard.market import HISTORY_US, POINT_FIELDS, ROW_FIELDS, SPARK_US, Market
from fulltape.measures.names import MEASURES

OVERVIEW = None
"""The view of all products; any other view is a product's name."""

View = str | None

_encode = msgspec.json.Encoder().encode


def hello(feed: str, market: Market) -> bytes:
    """Return the first frame: what does not change, and how to read the rest."""
    return _encode(
        {
            "type": "hello",
            "version": __version__,
            "feed": feed,
            "products": list(market.products),
            "windows": market.windows,
            "row": ROW_FIELDS,
            "point": POINT_FIELDS,
            "history_us": HISTORY_US,
            "spark_us": SPARK_US,
            "stages": STAGES,
            "histogram": {"first_us": FIRST_US, "per_octave": PER_OCTAVE, "buckets": BUCKETS},
            "measures": {name: measure.description for name, measure in MEASURES.items()},
        }
    )


def update(market: Market, view: View, since: int, health: HealthReport | None, now_us: int) -> bytes | None:
    """Return what changed in a view after version ``since``; None if nothing did. ``health`` is sent if given."""
    frame: dict[str, Any] = {}
    if view is OVERVIEW:
        if rows := market.rows_since(since):
            frame["rows"] = rows
    elif product := _product(market, view, since):
        frame["product"] = product
    if alerts := market.alerts_since(since):
        frame["alerts"] = alerts
    if health is not None:
        frame["health"] = health
    if not frame:
        return None
    return _encode({"type": "update", "now_us": now_us, **frame})


def _product(market: Market, name: str, since: int) -> dict[str, Any] | None:
    changed = {window: series for window, series in market.products[name].series.items() if series.version > since}
    points = {
        window: points
        for window, series in market.products[name].series.items()
        if (points := series.points_since(since))
    }
    trades = market.trades_since(name, since)
    if not (points or trades):
        return None
    return {
        "name": name,
        "windows": {window: series.newest for window, series in changed.items()},
        "points": points,
        "trades": trades,
    }
