"""The figures of a feed's status, from its pods' own metrics."""

import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from fulltape_operator.desired.child import FEED_LABEL, FEED_NAMESPACE_LABEL
from fulltape_operator.observed import FeedKey, Observed
from fulltape_operator.readings import Readings, _coarse, _rounded
from fulltape_operator.status import Figures

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
    observed.see({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status})


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


def summed_up(**texts: str) -> Figures:
    """Return the figures of pods that serve these texts, by the pods' names without the feed's."""
    readings = Readings(Observed())
    return readings._sum_up(FEED, {f"majors-{name}": text for name, text in texts.items()})


def test_figures_of_several_shards_are_put_together() -> None:
    found = summed_up(
        producer_0='fulltape_missing_total{product="A"} 1\nfulltape_last_trade_timestamp_seconds{product="A"} 120\n',
        producer_1='fulltape_missing_total{product="B"} 2\nfulltape_last_trade_timestamp_seconds{product="B"} 200\n',
        monitor="fulltape_backlog 5000\n",
    )
    assert found.missing_trades == 3
    assert found.last_trade_time == "1970-01-01T00:03:00Z"
    assert found.consumer_lag == 8192


def test_what_no_pod_serves_is_unknown_and_not_zero() -> None:
    assert summed_up() == summed_up(producer_0="", monitor="") == Figures()


def test_the_rate_is_unknown_while_the_monitor_alone_answers() -> None:
    readings = Readings(Observed())
    for _ in range(2):
        found = readings._sum_up(FEED, {"majors-monitor": "fulltape_backlog 5\n"})
    assert found.consumer_lag == 0
    assert found.trades_per_second is None


def test_the_producers_own_backlog_is_no_lag_of_a_consumer() -> None:
    assert summed_up(producer_0="fulltape_backlog 9000\n").consumer_lag is None


@pytest.mark.parametrize(
    "text",
    [
        "fulltape_backlog many\n",
        "fulltape_backlog NaN\n",
        "fulltape_backlog +Inf\n",
        'fulltape_missing_total{product="A"} NaN\n',
        "fulltape_last_trade_timestamp_seconds 1e300\n",
    ],
)
async def test_what_can_t_be_read_leaves_the_figures_and_the_other_feeds(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def monitor(_: web.Request) -> web.Response:
        return web.Response(text=text)

    application = web.Application()
    application.add_routes([web.get("/metrics", monitor)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        observed = Observed()
        observed.see_feed(FEED, {"metadata": {"uid": "1", "resourceVersion": "1"}})
        observe(observed, "majors-monitor-abc", "127.0.0.1")
        readings = Readings(observed, runner.addresses[0][1])
        await readings.read()
        assert readings.figures(FEED) == Figures()
        assert "n/majors: metrics that can't be read" in caplog.text
    finally:
        await runner.cleanup()


async def test_pods_that_do_not_answer_leave_the_figures_unknown() -> None:
    async def refusing(_: web.Request) -> web.Response:
        return web.Response(status=503, text=MONITOR)

    application = web.Application()
    application.add_routes([web.get("/metrics", refusing)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    observed = Observed()
    observed.see_feed(FEED, {"metadata": {"uid": "1", "resourceVersion": "1"}})
    observe(observed, "majors-monitor-abc", "127.0.0.1")
    readings = Readings(observed, runner.addresses[0][1])
    await readings.read()
    assert readings.figures(FEED) == Figures()
    await runner.cleanup()  # and now nobody listens
    await readings.read()
    assert readings.figures(FEED) == Figures()


async def test_the_figures_go_with_the_pods_and_with_the_feed() -> None:
    observed = Observed()
    observed.see_feed(FEED, {"metadata": {"uid": "1", "resourceVersion": "1"}})
    readings = Readings(observed)
    readings._figures[FEED] = Figures(missing_trades=1)
    assert await readings.read() == {FEED}
    assert readings.figures(FEED) == Figures()
    readings._figures[FEED] = Figures(missing_trades=1)
    readings.forget(FEED)
    assert readings.figures(FEED) == Figures()


@given(st.floats(min_value=1e-300, max_value=1e12))
def test_a_rounded_figure_is_near_and_stays_as_it_is_when_rounded_again(value: float) -> None:
    found = _rounded(value)
    assert found == pytest.approx(value, rel=0.051)
    assert _rounded(found) == found


@given(st.integers(0, 10**15))
@example(2**49 + 1)
def test_a_small_lag_is_none_and_a_large_one_is_never_said_to_be_smaller(lag: int) -> None:
    found = _coarse(lag)
    assert found == 0 if lag < 100 else lag <= found < 2 * lag
