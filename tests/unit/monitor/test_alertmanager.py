"""What an Alertmanager is posted, and that none of it is lost while the Alertmanager is away or refuses."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from aiohttp import web

from fulltape.errors import ConfigurationError
from fulltape.feed.model import CryptoFeed
from fulltape.messages import Alert
from fulltape.monitor.alertmanager import AlertmanagerClient, alertmanager_urls

FEED = CryptoFeed.model_validate(
    {
        "apiVersion": "fulltape.dev/v1alpha1",
        "kind": "CryptoFeed",
        "metadata": {"name": "majors"},
        "spec": {
            "products": ["BTC-USD"],
            "kafka": {"bootstrapServers": "b:9092"},
            "analytics": {},
            "alertmanagers": ["http://a:9093", "https://b/alertmanager"],
        },
    }
)


def test_the_environment_replaces_the_feeds_addresses() -> None:
    assert alertmanager_urls(FEED, {}) == ("http://a:9093", "https://b/alertmanager")
    assert alertmanager_urls(FEED, {"FULLTAPE_ALERTMANAGERS": ""}) == ()
    assert alertmanager_urls(FEED, {"FULLTAPE_ALERTMANAGERS": "http://c:1, http://d:2/x,"}) == (
        "http://c:1",
        "http://d:2/x",
    )


@pytest.mark.parametrize("value", ["alertmanager:9093", "ftp://a", "http://", "http://a b"])
def test_an_address_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"FULLTAPE_ALERTMANAGERS: .* is not a web address; write http://"):
        alertmanager_urls(FEED, {"FULLTAPE_ALERTMANAGERS": f"http://good:1,{value}"})


class Server:
    """Takes posts as Alertmanager's API does; ``statuses`` are the answers to the next ones, else 200."""

    def __init__(self) -> None:
        self.url = ""
        self.posts: list[list[dict[str, Any]]] = []
        self.statuses: list[int] = []
        self.malformed: set[str] = set()
        self.connections: set[object] = set()
        self.arrived = 0
        self.open = asyncio.Event()
        self.open.set()

    async def receive(self, request: web.Request) -> web.Response:
        self.connections.add(request.transport)
        alerts = await request.json()
        self.arrived += 1
        await self.open.wait()
        if self.statuses:
            return web.Response(status=self.statuses.pop(0), text="no")
        if any(alert["labels"]["product"] in self.malformed for alert in alerts):
            return web.Response(status=400, text="invalid label")
        if alerts:
            self.posts.append(alerts)
        return web.Response()

    def seen(self) -> list[tuple[str, str]]:
        """Return each post of an alert as its product and whether it fires."""
        return [
            (alert["labels"]["product"], "firing" if ahead(alert["endsAt"]) > 0 else "resolved")
            for post in self.posts
            for alert in post
        ]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    application = web.Application()
    application.add_routes([web.post("/prefix/api/v2/alerts", made.receive)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/prefix/"
    yield made
    made.open.set()
    await runner.cleanup()


def ahead(when: str) -> float:
    """Return by how many seconds a time lies in the future."""
    return datetime.fromisoformat(when).timestamp() - time.time()


def change(state: Literal["firing", "resolved"], product: str = "BTC-USD", age_seconds: float = 0) -> Alert:
    return Alert(
        name="Fall",
        fingerprint=f"Fall/{product}/1m",
        state=state,
        product=product,
        window="1m",
        severity="warning",
        summary="",
        values={},
        labels={"alertname": "Fall", "product": product},
        annotations={"summary": "s"},
        since_us=1_760_129_460_000_000,
        starts_us=1_760_129_460_000_000,
        ends_us=None,
        trade_us=None,
        changed_us=int((time.time() - age_seconds) * 1e6),
    )


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        await asyncio.sleep(0.005)


async def test_times_are_the_monitors_clock_and_a_firing_ends_some_minutes_ahead(server: Server) -> None:
    async with AlertmanagerClient([server.url]) as client:
        client.notify([change("firing", age_seconds=2)])
        await until(lambda: len(server.posts) == 1)
        client.notify([change("resolved", age_seconds=1)])
        await until(lambda: len(server.posts) == 2)
    ((fired,), (ended,)) = server.posts
    assert fired["labels"] == {"alertname": "Fall", "product": "BTC-USD"}
    assert fired["annotations"] == {"summary": "s"}
    assert -60 < ahead(fired["startsAt"]) < -1
    assert 240 < ahead(fired["endsAt"]) < 301
    assert ended["startsAt"] == fired["startsAt"]
    assert -60 < ahead(ended["endsAt"]) < 0
    assert datetime.fromisoformat(ended["endsAt"]).tzinfo == UTC


async def test_what_fires_is_repeated_until_it_ends(server: Server) -> None:
    async with AlertmanagerClient([server.url], keep_alive_seconds=0.02) as client:
        client.notify([change("firing", "A-USD"), change("firing", "B-USD")])
        await until(lambda: len(server.posts) > 5)
        client.notify([change("resolved", "A-USD")])
        await until(lambda: ("A-USD", "resolved") in server.seen())
        taken = len(server.seen())
        await until(lambda: len(server.seen()) > taken + 3)
    assert set(server.seen()[taken:]) == {("B-USD", "firing")}


async def test_one_connection_is_opened_ahead_and_used_for_all(server: Server) -> None:
    async with AlertmanagerClient([server.url], keep_alive_seconds=0.02) as client:
        (peer,) = client.peers
        await until(lambda: peer.posts >= 2)
        assert (server.posts, peer.reachable) == ([], True)
        client.notify([change("firing")])
        await until(lambda: server.posts)
    assert len(server.connections) == 1


async def test_a_message_given_twice_is_posted_once(server: Server) -> None:
    async with AlertmanagerClient([server.url]) as client:
        fired = change("firing")
        client.notify([fired, fired])
        await until(lambda: server.posts)
        client.notify([fired])
        client.notify([change("firing", "ETH-USD")])
        await until(lambda: len(server.posts) == 2)
    assert server.seen() == [("BTC-USD", "firing"), ("ETH-USD", "firing")]


async def test_however_often_an_alert_changes_its_last_firing_and_end_are_what_waits(server: Server) -> None:
    server.open.clear()
    async with AlertmanagerClient([server.url]) as client:
        (peer,) = client.peers
        for _ in range(1000):
            client.notify([change("firing"), change("resolved")])
        assert peer.waiting == 2
        server.open.set()
        await until(lambda: not peer.waiting)
    assert server.seen() == [("BTC-USD", "firing"), ("BTC-USD", "resolved")]


async def test_changes_that_come_while_a_post_is_under_way_are_posted_after_it(server: Server) -> None:
    async with AlertmanagerClient([server.url]) as client:
        (peer,) = client.peers
        await until(lambda: peer.posts)
        server.open.clear()
        client.notify([change("firing")])
        await until(lambda: server.arrived == 2)
        client.notify([change("resolved"), change("firing"), change("resolved")])
        server.open.set()
        await until(lambda: not peer.waiting)
    assert server.seen() == [("BTC-USD", "firing"), ("BTC-USD", "firing"), ("BTC-USD", "resolved")]


@pytest.mark.parametrize("status", [500, 503, 404, 401, 429])
async def test_an_answer_that_says_not_now_is_no_reason_to_give_up(server: Server, status: int) -> None:
    server.statuses = [status, status]
    async with AlertmanagerClient([server.url]) as client:
        (peer,) = client.peers
        client.notify([change("firing")])
        await until(lambda: server.posts)
    assert server.seen() == [("BTC-USD", "firing")]
    assert (peer.failures, peer.refused) == (2, 0)


async def test_an_alert_that_is_refused_holds_up_no_other(server: Server) -> None:
    server.malformed = {"B-USD"}
    async with AlertmanagerClient([server.url]) as client:
        (peer,) = client.peers
        client.notify([change("firing", product) for product in ("A-USD", "B-USD", "C-USD")])
        await until(lambda: not peer.waiting)
    assert server.seen() == [("A-USD", "firing"), ("C-USD", "firing")]
    assert peer.refused == 1


async def test_after_an_outage_everything_that_fires_is_repeated_at_once(server: Server) -> None:
    async with AlertmanagerClient([server.url]) as client:
        (peer,) = client.peers
        client.notify([change("firing", "A-USD")])
        await until(lambda: server.posts)
        server.statuses = [503]
        client.notify([change("firing", "B-USD")])
        await until(lambda: peer.failures)
        await until(lambda: not peer.waiting)
    assert server.seen() == [("A-USD", "firing"), ("A-USD", "firing"), ("B-USD", "firing")]


async def test_an_end_of_long_ago_is_no_news(server: Server) -> None:
    async with AlertmanagerClient([server.url]) as client:
        (peer,) = client.peers
        client.notify([change("resolved", "A-USD", age_seconds=3600), change("resolved", "B-USD", age_seconds=20)])
        await until(lambda: server.posts)
        assert peer.waiting == 0
    assert server.seen() == [("B-USD", "resolved")]
    assert "startsAt" not in server.posts[0][0]  # Alertmanager knows it


async def test_without_alertmanagers_there_is_nobody_to_tell() -> None:
    async with AlertmanagerClient([]) as client:
        client.notify([change("firing")])
        assert client.peers == ()
