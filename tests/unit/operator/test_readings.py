"""The figures of a feed's status, from its pods' own metrics."""

from aiohttp import web

from fulltape_operator.desired.child import FEED_LABEL, FEED_NAMESPACE_LABEL
from fulltape_operator.observed import FeedKey, Observed
from fulltape_operator.readings import Readings

FEED = FeedKey("n", "majors")
PRODUCER = """
fulltape_missing_total{product="BTC-USD"} 3.0
fulltape_last_trade_timestamp_seconds{product="BTC-USD"} 1.7670960591e+09
fulltape_backlog 7.0
fulltape_tape_records_total %s
"""
MONITOR = "fulltape_backlog 120.0\n"


def observe(observed: Observed, name: str, address: str) -> None:
    labels = {FEED_LABEL: FEED.name, FEED_NAMESPACE_LABEL: FEED.namespace}
    metadata = {"name": name, "namespace": "n", "uid": name, "resourceVersion": "1", "labels": labels}
    status = {"podIP": address, "conditions": [{"type": "Ready", "status": "True"}]}
    observed.see(FEED, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status})


async def test_figures_come_from_producers_and_monitor_and_are_rounded_and_go_with_their_pods() -> None:
    records = iter([100, 4100])

    async def producer(_: web.Request) -> web.Response:
        return web.Response(text=PRODUCER % next(records))

    async def monitor(_: web.Request) -> web.Response:
        return web.Response(text=MONITOR)

    runners: list[web.AppRunner] = []
    port = 0
    for address, handler in (("127.0.0.1", producer), ("127.0.0.2", monitor)):
        application = web.Application()
        application.add_routes([web.get("/metrics", handler)])
        runners.append(web.AppRunner(application))
        await runners[-1].setup()
        # As pods do, both listen on the same port, each at an address of its own.
        await web.TCPSite(runners[-1], address, port).start()
        port = runners[-1].addresses[0][1]
    try:
        observed = Observed()
        observed.see_feed(FEED, {"metadata": {"uid": "1", "resourceVersion": "1"}})
        readings = Readings(observed, port)
        assert await readings.read() == set()
        observe(observed, "majors-producer-0", "127.0.0.1")
        observe(observed, "majors-monitor-abc", "127.0.0.2")
        assert await readings.read() == {FEED}
        first = readings.figures(FEED)
        assert (first.missing_trades, first.consumer_lag) == (3, 128)
        assert first.last_trade_time == "2025-12-30T12:00:00Z"
        assert first.trades_per_second is None
        await readings.read()
        rate = readings.figures(FEED).trades_per_second
        assert rate is not None
        assert rate > 0
        assert float(f"{rate:.1e}") == rate
    finally:
        for runner in runners:
            await runner.cleanup()
