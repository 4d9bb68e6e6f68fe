"""Measures a feed that runs somewhere else: how long its trades take until a window reflects them.

Nothing is started and nothing is disturbed: a consumer watches the feed's windows, and the tape then says which trades
there were. A trade's latency begins with its time at the exchange, so the exchange's clock and this machine's must
agree to the precision that is asked for; with the sandbox exchange on the same machine they are one.
"""

import time
from typing import Any

from fulltape import __version__
from fulltape.bench.arrivals import Arrivals, WindowMark, latencies_us, pauses, read_trades, unseen
from fulltape.bench.report import StolenCpu, latency, machine, versions
from fulltape.bench.tape import Say
from fulltape.topics import Topics

_UNDER_WAY_SECONDS = 5.0
"""In which the last trades arrive."""

_CLOCKS_US = 60_000_000
"""The tape is read from so long before the measured time on: no two clocks of a feed are further apart."""

_PAUSE_US = 250_000
_LONGEST = 10
"""So many pauses are told of."""


def measure_feed(
    feed: str, bootstrap_servers: str, *, window: str, warm_up_seconds: float, seconds: float, say: Say
) -> dict[str, Any]:
    """Watch a feed for a while and return the report.

    Args:
        feed: its name.
        bootstrap_servers: of its Kafka, which must let this in without credentials.
        window: the windows that count, as the feed names their length.
        warm_up_seconds: before the trades that count.
        seconds: of trades that count.
        say: is told what is done.

    """
    topics = Topics(feed)
    whole = StolenCpu()
    with Arrivals(bootstrap_servers, topics.windows, WindowMark, only_keys_with=f"/{window}/".encode()) as windows:
        say(f"warming up for {warm_up_seconds:g} s")
        time.sleep(warm_up_seconds)
        say(f"measuring for {seconds:g} s")
        from_us = time.time_ns() // 1000
        time.sleep(seconds)
        until_us = time.time_ns() // 1000
        time.sleep(_UNDER_WAY_SECONDS)
    say("reading the tape")
    trades = read_trades(bootstrap_servers, topics.trades, since_us=from_us - _CLOCKS_US)
    seen = windows.marks()
    measured = latencies_us(trades, seen, from_us, until_us)
    missed = unseen(trades, seen, from_us, until_us)
    paused = pauses(trades, seen, from_us, until_us, over_us=_PAUSE_US)
    return {
        "benchmark": "feed",
        "machine": machine() | {"stolen_cpu": whole.fraction()},
        "versions": {"fulltape": __version__} | versions("confluent-kafka", "msgspec"),
        "load": {"window": window, "warm_up": warm_up_seconds, "seconds": seconds},
        "results": {
            "trades_per_second": round((len(measured) + missed) / seconds, 1),
            "trade_to_window": latency(measured),
            "unseen": missed,
            "pauses": {
                "over_ms": _PAUSE_US / 1000,
                "count": len(paused),
                "longest": [
                    {
                        "at_seconds": round((pause.at_us - from_us) / 1e6, 1),
                        "trades": pause.trades,
                        "max_ms": pause.longest_us / 1000,
                    }
                    for pause in sorted(paused, key=lambda pause: pause.longest_us, reverse=True)[:_LONGEST]
                ],
            },
        },
    }
