"""Alerts reach people through a real Alertmanager: each firing and each end once, whatever is killed meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from fulltape.local.alertmanager import EmbeddedAlertmanager, find_alertmanager
from fulltape.messages import Alert
from fulltape.monitor.alertmanager import AlertmanagerClient
from tests.lacking import lacking

pytestmark = pytest.mark.integration

LAST_YEAR_US = 1_760_129_460_000_000
"""The exchange's time of what is replayed here."""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if find_alertmanager() is None:
        lacking("needs Alertmanager (apt-get install prometheus-alertmanager)")


class Webhook:
    """What a person would be told: every notification, in order, as (alertname, product, status)."""

    def __init__(self) -> None:
        self.url = ""
        self.told: list[tuple[str, str, str]] = []
        self.alerts: list[dict[str, Any]] = []

    async def receive(self, request: web.Request) -> web.Response:
        for alert in (await request.json())["alerts"]:
            self.told.append((alert["labels"]["alertname"], alert["labels"]["product"], alert["status"]))
            self.alerts.append(alert)
        return web.Response()


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    hook = Webhook()
    application = web.Application()
    application.add_routes([web.post("/", hook.receive)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield hook
    await runner.cleanup()


@pytest.fixture
async def alertmanager(webhook: Webhook) -> AsyncIterator[EmbeddedAlertmanager]:
    server = EmbeddedAlertmanager(webhook.url)
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


@pytest.fixture
def second_alertmanager(webhook: Webhook) -> Iterator[EmbeddedAlertmanager]:
    with EmbeddedAlertmanager() as server:
        yield server


async def until(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        await asyncio.sleep(0.005)


def change(state: Any, name: str = "FlashCrash", product: str = "BTC-USD") -> Alert:
    """Return a change of an alert that happens now, on a replay of last year."""
    ends = state == "resolved"
    return Alert(
        name=name,
        fingerprint=f"{name}/{product}/5m",
        state=state,
        product=product,
        window="5m",
        severity="critical",
        summary="drawdown over 5m is 6.2 %, above 5 %",
        values={"drawdown": 0.062},
        labels={"alertname": name, "feed": "majors", "namespace": "default", "product": product, "window": "5m"},
        annotations={"summary": "drawdown over 5m is 6.2 %, above 5 %", "fired": "2025-10-10T20:51:00Z"},
        since_us=LAST_YEAR_US,
        starts_us=LAST_YEAR_US,
        ends_us=LAST_YEAR_US + 60_000_000 if ends else None,
        trade_us=LAST_YEAR_US,
        changed_us=time.time_ns() // 1000,
    )


FIRED, RESOLVED = ("FlashCrash", "BTC-USD", "firing"), ("FlashCrash", "BTC-USD", "resolved")


async def active(server: EmbeddedAlertmanager) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/api/v2/alerts") as response:
        alerts: list[dict[str, Any]] = await response.json()
        return alerts


async def test_an_alert_and_its_end_are_told_once_each_with_their_numbers(
    webhook: Webhook, alertmanager: EmbeddedAlertmanager
) -> None:
    async with AlertmanagerClient([alertmanager.url], keep_alive_seconds=0.2) as client:
        (peer,) = client.peers
        client.notify([change("pending"), change("firing")])
        await until(lambda: webhook.told)
        taken = peer.posts
        await until(lambda: peer.posts >= taken + 3)  # kept alive; tells nobody again
        client.notify([change("resolved")])
        await until(lambda: len(webhook.told) == 2)
    assert webhook.told == [FIRED, RESOLVED]
    assert webhook.alerts[0]["annotations"]["summary"] == "drawdown over 5m is 6.2 %, above 5 %"
    assert webhook.alerts[0]["annotations"]["fired"] == "2025-10-10T20:51:00Z"
    assert (peer.failures, peer.refused, peer.waiting, peer.firing) == (0, 0, 0, 0)


async def test_an_alert_that_ends_at_once_is_told_all_the_same(
    webhook: Webhook, alertmanager: EmbeddedAlertmanager
) -> None:
    async with AlertmanagerClient([alertmanager.url]) as client:
        client.notify([change("firing"), change("resolved")])
        await until(lambda: len(webhook.told) == 2)
    assert webhook.told == [FIRED, RESOLVED]


async def test_what_happens_while_alertmanager_is_killed_is_told_once_when_it_is_back(
    webhook: Webhook, alertmanager: EmbeddedAlertmanager
) -> None:
    async with AlertmanagerClient([alertmanager.url], keep_alive_seconds=0.2) as client:
        (peer,) = client.peers
        client.notify([change("firing"), change("firing", product="ETH-USD")])
        await until(lambda: len(webhook.told) == 2)
        noted = alertmanager.data / "data" / "nflog"
        told_at = time.time()
        await until(lambda: noted.exists() and noted.stat().st_mtime > told_at + 0.1)
        await asyncio.to_thread(alertmanager.kill)
        client.notify([change("resolved")])  # it knew the firing
        client.notify([change("firing", "TradeBurst")])
        client.notify([change("firing", "LiquidityGap"), change("resolved", "LiquidityGap")])  # it knows of neither
        await until(lambda: peer.failures)
        assert peer.waiting == 4
        await asyncio.to_thread(alertmanager.start)
        await until(lambda: len(webhook.told) == 6)
        taken = peer.posts
        await until(lambda: peer.posts >= taken + 5)  # what else would be told has had its time
        alerts = await active(alertmanager)
    assert sorted(webhook.told[2:]) == sorted(
        [
            RESOLVED,
            ("TradeBurst", "BTC-USD", "firing"),
            ("LiquidityGap", "BTC-USD", "firing"),
            ("LiquidityGap", "BTC-USD", "resolved"),
        ]
    )
    assert sorted(alert["labels"]["alertname"] for alert in alerts) == ["FlashCrash", "TradeBurst"]


async def test_a_monitor_that_starts_again_keeps_its_alerts_and_tells_nobody_twice(
    webhook: Webhook, alertmanager: EmbeddedAlertmanager
) -> None:
    fired = change("firing")
    async with AlertmanagerClient([alertmanager.url]) as client:
        client.notify([fired])
        await until(lambda: webhook.told)
    async with AlertmanagerClient([alertmanager.url], keep_alive_seconds=0.2) as client:
        client.notify([fired])
        (peer,) = client.peers
        await until(lambda: peer.posts >= 4)
        assert webhook.told == [FIRED]
        ended = change("resolved")
        client.notify([ended])
        await until(lambda: len(webhook.told) == 2)
    async with AlertmanagerClient([alertmanager.url], keep_alive_seconds=0.2) as client:
        client.notify([ended])  # its last message
        (peer,) = client.peers
        await until(lambda: peer.posts >= 4)
    assert webhook.told == [FIRED, RESOLVED]


async def test_an_end_that_a_killed_monitor_did_not_tell_is_told_by_the_next(
    webhook: Webhook, alertmanager: EmbeddedAlertmanager
) -> None:
    async with AlertmanagerClient([alertmanager.url]) as client:
        client.notify([change("firing")])
        await until(lambda: webhook.told)
    async with AlertmanagerClient([alertmanager.url]) as client:
        client.notify([change("resolved")])
        await until(lambda: len(webhook.told) == 2)
    assert webhook.told == [FIRED, RESOLVED]


async def test_one_alertmanager_that_is_away_holds_up_no_other(
    webhook: Webhook, alertmanager: EmbeddedAlertmanager, second_alertmanager: EmbeddedAlertmanager
) -> None:
    await asyncio.to_thread(second_alertmanager.kill)
    async with AlertmanagerClient([second_alertmanager.url, alertmanager.url]) as client:
        away, there = client.peers
        client.notify([change("firing")])
        await until(lambda: webhook.told)
        assert (away.firing, away.reachable, there.firing) == (0, False, 1)
        await asyncio.to_thread(second_alertmanager.start)
        await until(lambda: away.firing)
        assert [alert["labels"]["alertname"] for alert in await active(second_alertmanager)] == ["FlashCrash"]


async def test_a_thousand_alerts_at_once_all_arrive(webhook: Webhook, alertmanager: EmbeddedAlertmanager) -> None:
    async with AlertmanagerClient([alertmanager.url]) as client:
        client.notify(change("firing", product=f"A{number}-USD") for number in range(1000))
        await until(lambda: len(webhook.told) == 1000, 30)
    assert len({product for _, product, _ in webhook.told}) == 1000


def test_an_alertmanager_is_gone_with_its_folder_once_stopped(tmp_path: Path) -> None:
    with EmbeddedAlertmanager() as server:
        folder = server.data
        assert server.pid is not None
    assert server.pid is None
    assert not folder.exists()
