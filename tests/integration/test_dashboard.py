"""What a user sees of a live market, in a real browser; and what the server allows, bears and survives."""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from aiohttp import test_utils, web
from confluent_kafka import Producer
from playwright.async_api import Browser, Page, expect

from fulltape.bench.stage import FeedOptions, Program, delete_topics, make_feed
from fulltape.dashboard.hub import Hub
from fulltape.dashboard.market import Batch, Market
from fulltape.kafka import ensure_topics, topic_specs
from fulltape.local.kafka import EmbeddedKafka, free_port
from fulltape.messages import Alert
from tests.browser import PHONE, chromium, visit
from tests.story import PRODUCTS, WINDOWS, Story, alert, history

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

_PAST_SECONDS = 940
_PATIENCE_SECONDS = 30.0
_NONE = "\N{EN DASH}"
"""What the page writes where there is no value."""


async def until(condition: Callable[[], Awaitable[object]], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, f"{what}: not within {_PATIENCE_SECONDS:g} s"
        await asyncio.sleep(0.02)


class Stage:
    """A feed with 15 minutes behind it on a real broker, a dashboard, and a hand that writes what comes next."""

    def __init__(self, kafka: EmbeddedKafka, folder: Path) -> None:
        self.kafka = kafka
        self.folder = folder
        name = f"test-{uuid4().hex[:12]}"
        self.feed = make_feed(name, FeedOptions(PRODUCTS, analytics={"windows": list(WINDOWS)}))
        ensure_topics({"bootstrap.servers": kafka.bootstrap_servers}, topic_specs(self.feed, replicas=1))
        self.file = folder / "feed.yaml"
        self.file.write_text(json.dumps(self.feed.to_dict()))
        self.port, self.probe_port = free_port(), free_port()
        self.story = Story(int(time.time()) - _PAST_SECONDS, 4 * _PAST_SECONDS, crash=("LINK-USD", _PAST_SECONDS - 300))
        self.last_id = 1_000_000
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 0})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def live(self) -> str:
        return f"ws://127.0.0.1:{self.port}/live"

    def write_history(self) -> None:
        for window in history(self.story, range(_PAST_SECONDS), ("BTC-USD", "ETH-USD", "LINK-USD")):
            key = f"{window.product}/{window.window}/{window.end_us // 1_000_000}"
            self._producer.produce(
                self.feed.topics.windows, msgspec.json.encode(window), key, timestamp=window.end_us // 1000
            )
            self._producer.poll(0)
        self._producer.flush()

    def trade(self, product: str, price: float, count: int = 1) -> int:
        """Publish trades at a price, and the windows that the last one changes; return its id."""
        now_us = time.time_ns() // 1000
        second = now_us // 1_000_000 - self.story.start
        for _ in range(count):
            self.last_id += 1
            trade = self.story.trade(product, self.last_id, price, now_us, 0.7)
            self._producer.produce(self.feed.topics.trades, msgspec.json.encode(trade), product)
        text = self.story.text(product, price)
        for name in WINDOWS:
            window = self.story.window(product, name, second, last_id=self.last_id, now_us=now_us, price=text)
            key = f"{product}/{name}/{window.end_us // 1_000_000}"
            self._producer.produce(self.feed.topics.windows, msgspec.json.encode(window), key)
        self._producer.poll(0)
        return self.last_id

    def flush(self) -> None:
        self._producer.flush(10)

    def alert(self, change: Alert) -> None:
        self._producer.produce(self.feed.topics.alerts, msgspec.json.encode(change), change.fingerprint)
        self._producer.flush()

    def garbage(self, topic: str) -> None:
        for value in (b"", b"\xff\x00", b'{"type":"window"}', b"[" * 2000):
            self._producer.produce(topic, value, "BTC-USD")
        self._producer.flush()

    @asynccontextmanager
    async def market(self, every_seconds: float = 0.05) -> AsyncIterator[None]:
        """Let every product trade while the context lasts."""

        async def trade() -> None:
            while True:
                for product in PRODUCTS:
                    self.trade(product, self.story.closes[product][_PAST_SECONDS], 2)
                await asyncio.sleep(every_seconds)

        task = asyncio.create_task(trade())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def start(self) -> Program:
        """Start the dashboard, on the ports that it always has here."""
        command = [sys.executable, "-m", "fulltape.cli", "dashboard", "--feed", str(self.file)]
        command += ["--port", str(self.port), "--probe-port", str(self.probe_port)]
        environment = {**os.environ, "FULLTAPE_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers}
        return Program("dashboard", command, self.folder, environment=environment)

    async def ready(self) -> None:
        async with aiohttp.ClientSession() as session:

            async def answers() -> bool:
                try:
                    async with session.get(f"http://127.0.0.1:{self.probe_port}/readyz") as answer:
                        return answer.status == 200
                except aiohttp.ClientConnectionError:
                    return False

            await until(answers, "the dashboard is ready")

    async def metric(self, name: str) -> float:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.probe_port}/metrics") as answer,
        ):
            lines = (await answer.text()).splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"fulltape_{name} ")))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    stage = Stage(kafka, tmp_path_factory.mktemp("dashboard"))
    stage.write_history()
    yield stage
    stage.flush()
    delete_topics(kafka.bootstrap_servers, stage.feed)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def dashboard(stage: Stage) -> AsyncIterator[Program]:
    with stage.start() as program:
        await stage.ready()
        yield program


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


def row(page: Page, product: str) -> Any:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=product, exact=True))


async def test_a_user_sees_every_product_and_its_price_change(
    stage: Stage, dashboard: Program, browser: Browser
) -> None:
    async with visit(browser, stage.url) as page:
        await expect(page.locator("#rows tr")).to_have_count(len(PRODUCTS))
        stage.trade("BTC-USD", 71_234.56)
        await expect(row(page, "BTC-USD").locator(".price")).to_have_text("71,234.56")
        stage.trade("BTC-USD", 71_234.57)
        await expect(row(page, "BTC-USD").locator(".price")).to_have_text("71,234.57")
        await expect(row(page, "BTC-USD").locator("td").last).to_have_text("✓")
        await expect(page.locator("#link")).to_have_attribute("data-state", "live")
        await expect(page.locator("#vital-missing")).to_have_text("0")


async def test_a_product_shows_15_minutes_at_once_and_goes_on_live(
    stage: Stage, dashboard: Program, browser: Browser
) -> None:
    frames: list[dict[str, Any]] = []
    async with visit(browser, "about:blank") as page:
        page.on("websocket", lambda link: link.on("framereceived", lambda data: frames.append(json.loads(data))))
        await page.goto(f"{stage.url}/#/LINK-USD")
        await expect(page.locator("#chart canvas").first).to_be_visible()
        await expect(page.get_by_role("heading", name="LINK-USD")).to_be_visible()

        async def drawn() -> bool:
            return await page.evaluate(_DRAWN_SHARE) > 0.9

        await until(drawn, "the price is drawn over nearly all of the chart's width")
        whole = next(frame["product"] for frame in frames if "product" in frame)
        assert {length: len(points) >= 890 for length, points in whole["points"].items()} == {"1m": True, "5m": True}
        stage.trade("LINK-USD", 15.123, 3)
        await expect(page.locator("#quote-price")).to_have_text("15.123")
        await expect(page.locator("#trades tr").first.locator("td").nth(1)).to_have_text("15.123")
        await expect(page.locator("#measures")).to_contain_text("Garman-Klass")
        await page.get_by_role("button", name="5m").click()
        await expect(page.locator("#quote-change")).to_contain_text("in 5m")
        await until(drawn, "the longer window is drawn")


_DRAWN_SHARE = """() => {
  const canvases = [...document.querySelectorAll('#chart canvas')];
  const canvas = canvases.sort((one, other) => other.width * other.height - one.width * one.height)[0];
  const { width, height } = canvas;
  const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
  const colour = getComputedStyle(document.documentElement).getPropertyValue('--accent').trim();
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  let columns = 0;
  for (let x = 0; x < width; x += 1) {
    for (let y = 0; y < height; y += 1) {
      const at = 4 * (y * width + x);
      if (Math.abs(data[at] - red) + Math.abs(data[at + 1] - green) + Math.abs(data[at + 2] - blue) < 30) {
        columns += 1;
        break;
      }
    }
  }
  return columns / width;
}"""
"""The share of the chart's columns in which a pixel has the colour of the price."""


async def test_an_alert_appears_is_spoken_and_resolves(stage: Stage, dashboard: Program, browser: Browser) -> None:
    async with visit(browser, stage.url) as page:
        await expect(page.locator("#rows tr")).to_have_count(len(PRODUCTS))
        began_us = time.time_ns() // 1000
        stage.alert(
            alert("FlashCrash", "SOL-USD", "firing", began_us, "SOL-USD fell 6.1 % within 5m", severity="critical")
        )
        entry = page.locator("#recent li").filter(has_text="FlashCrash")
        await expect(entry).to_contain_text("SOL-USD fell 6.1 % within 5m")
        await expect(entry).to_have_attribute("data-state", "firing")
        await expect(page.locator("#announce")).to_have_text("Alert: SOL-USD fell 6.1 % within 5m")
        await expect(page.locator("#alert-count")).to_have_text("1")
        stage.alert(alert("FlashCrash", "SOL-USD", "resolved", began_us, "SOL-USD is back"))
        await expect(entry).to_have_attribute("data-state", "resolved")
        await expect(page.locator("#alert-count")).to_be_hidden()


async def test_a_keyboard_is_enough(stage: Stage, dashboard: Program, browser: Browser) -> None:
    async with visit(browser, stage.url) as page:
        await expect(page.locator("#rows tr")).to_have_count(len(PRODUCTS))
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        await page.get_by_role("link", name=PRODUCTS[0], exact=True).focus()
        await page.keyboard.press("ArrowDown")
        await expect(page.get_by_role("link", name=PRODUCTS[1], exact=True)).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name=PRODUCTS[1])).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("heading", name="Market")).to_be_visible()


@pytest.mark.parametrize("view", ["", "#/LINK-USD", "#/alerts", "#/pipeline"])
async def test_a_phone_never_scrolls_sideways(stage: Stage, dashboard: Program, browser: Browser, view: str) -> None:
    async with visit(browser, f"{stage.url}/{view}", viewport=PHONE, is_mobile=True, has_touch=True) as page:
        await expect(page.locator("main > section:not([hidden]) h1")).not_to_have_text("")
        await expect(page.locator("#vital-rate")).not_to_have_text(_NONE)
        overhang = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overhang <= 0


async def test_light_and_dark_follow_the_users_choice(stage: Stage, dashboard: Program, browser: Browser) -> None:
    async with visit(browser, f"{stage.url}/#/LINK-USD", color_scheme="dark") as page:
        await expect(page.locator("#chart canvas").first).to_be_visible()
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        dark = await page.evaluate(ground)
        await page.emulate_media(color_scheme="light")
        assert await page.evaluate(ground) != dark


async def test_the_pipeline_view_draws_each_stage_to_the_glass(
    stage: Stage, dashboard: Program, browser: Browser
) -> None:
    async with visit(browser, f"{stage.url}/?measure#/pipeline") as page, stage.market():
        stages = page.locator("#stages > div:not(.axis)")
        await expect(stages).to_have_count(7)
        for index in range(7):
            await expect(stages.nth(index).locator("span").last).to_contain_text("s", timeout=20_000)
        await expect(page.locator("#vital-p50")).to_contain_text("s", timeout=20_000)


async def test_paints_are_told_to_a_benchmark_and_only_then(stage: Stage, dashboard: Program, browser: Browser) -> None:
    async with visit(browser, f"{stage.url}/?measure") as page:
        await expect(row(page, "ETH-USD").locator(".price")).not_to_have_text(_NONE)
        before_us = time.time_ns() // 1000
        last_id = stage.trade("ETH-USD", 3_999.99)
        await expect(row(page, "ETH-USD").locator(".price")).to_have_text("3,999.99")
        paints = await page.evaluate("window.fulltape.paints")
        product, painted_id, trade_us, painted_us = next(paint for paint in paints if paint[1] == last_id)
        assert (product, painted_id) == ("ETH-USD", last_id)
        assert before_us <= trade_us <= painted_us <= time.time_ns() // 1000
    async with visit(browser, stage.url) as page:
        stage.trade("ETH-USD", 4_000.01)
        await expect(row(page, "ETH-USD").locator(".price")).to_have_text("4,000.01")
        assert await page.evaluate("window.fulltape.paints") == []


async def test_garbage_is_counted_and_the_page_goes_on(stage: Stage, dashboard: Program, browser: Browser) -> None:
    before = await stage.metric("undecodable_total")
    stage.garbage(stage.feed.topics.windows)
    stage.garbage(stage.feed.topics.alerts)

    async def counted() -> bool:
        return await stage.metric("undecodable_total") > before

    await until(counted, "garbage is counted")
    async with visit(browser, f"{stage.url}/#/BTC-USD") as page:
        stage.garbage(stage.feed.topics.trades)
        stage.trade("BTC-USD", 70_001.01)
        await expect(page.locator("#quote-price")).to_have_text("70,001.01")
        await expect(page.locator("#trades tr").first.locator("td").nth(1)).to_have_text("70,001.01")


@pytest.mark.parametrize("path", ["/", "/live"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
)
async def test_strangers_are_refused(stage: Stage, dashboard: Program, headers: dict[str, str], path: str) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = "MDEyMzQ1Njc4OWFiY2RlZg=="
    sent = headers | (upgrade if path == "/live" else {})
    async with aiohttp.ClientSession() as session, session.get(stage.url + path, headers=sent) as answer:
        assert answer.status == 403


async def test_every_answer_forbids_what_the_page_does_not_need(stage: Stage, dashboard: Program) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("/", "/app.js", "/../pyproject.toml", "/%2e%2e/cli.py", "/nothing"):
            async with session.get(stage.url + path) as answer:
                assert answer.status == (200 if path in {"/", "/app.js"} else 404)
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
        async with session.post(stage.url) as answer:
            assert answer.status == 405


@pytest.mark.parametrize("said", ["nonsense", '{"view": "DOGE-EUR"}', '{"view": 5}'])
async def test_a_client_that_says_nonsense_is_sent_away(stage: Stage, dashboard: Program, said: str) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(stage.live) as client:
        await client.send_str(said)
        async for _ in client:
            pass
        assert client.close_code == 1008


async def test_500_browsers_are_kept_up_to_date(stage: Stage, dashboard: Program) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        clients = await asyncio.gather(*(session.ws_connect(stage.live) for _ in range(500)))
        try:
            async with stage.market(every_seconds=0.2):
                marked = stage.trade("ADA-USD", 0.4321)
                await asyncio.wait_for(
                    asyncio.gather(*(_sees(client, "ADA-USD", marked) for client in clients)), _PATIENCE_SECONDS
                )
        finally:
            await asyncio.gather(*(client.close() for client in clients))


async def _sees(client: aiohttp.ClientWebSocketResponse, product: str, last_id: int) -> None:
    """Read until a frame shows a trade or a later one."""
    hello = await client.receive_json()
    at = hello["row"].index("last_id")
    while True:
        frame = await client.receive_json()
        if any(row[0] == product and row[at] >= last_id for row in frame.get("rows", ())):
            return


async def test_a_browser_that_does_not_read_queues_nothing_and_then_sees_the_newest(
    stage: Stage, dashboard: Program
) -> None:
    reader, writer = await _open_slowly(stage.port)
    try:
        async with stage.market(every_seconds=0.01):
            stuck = await stage.metric("frames_total")

            async def still() -> bool:
                nonlocal stuck
                before, stuck = stuck, await stage.metric("frames_total")
                await asyncio.sleep(0.5)
                return stuck == before

            await until(still, "nothing more is sent to who does not read")
        newest = stage.trade("BTC-USD", 69_000.01)
        found, read = b"", 0
        while str(newest).encode() not in found:
            chunk = await asyncio.wait_for(reader.read(65_536), _PATIENCE_SECONDS)
            read += len(chunk)
            found = found[-100:] + chunk
        assert read < 2 * 2**20  # a few buffers of the kernel, whatever was published meanwhile
    finally:
        writer.close()


async def _open_slowly(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a WebSocket by hand, with room for little, and say that BTC-USD is looked at."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    client.setblocking(False)  # noqa: FBT003 - the library's signature
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=client, limit=8192)
    writer.write(
        f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n".encode()
    )
    assert b" 101 " in await reader.readline()
    look = b'{"view": "BTC-USD"}'
    writer.write(bytes([0x81, 0x80 | len(look), 0, 0, 0, 0]) + look)  # masked with zeros
    return reader, writer


async def test_the_page_comes_back_by_itself_when_the_server_was_killed(
    stage: Stage, dashboard: Program, browser: Browser
) -> None:
    async with visit(browser, stage.url, forgive="WebSocket") as page:
        stage.trade("SOL-USD", 170.01)
        await expect(row(page, "SOL-USD").locator(".price")).to_have_text("170.01")
        dashboard.kill()
        await expect(page.locator("#link")).to_contain_text("Reconnecting")
        await expect(page.locator("#banner")).to_contain_text("The server is gone")
        with stage.start() as again:
            await stage.ready()
            stage.trade("SOL-USD", 169.99)
            await expect(row(page, "SOL-USD").locator(".price")).to_have_text("169.99", timeout=20_000)
            await expect(page.locator("#banner")).to_be_hidden()
            assert again.terminate() == 0


async def test_a_port_in_use_is_said_before_anything_starts(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", stage.port)), stage.start() as program:
        assert await asyncio.to_thread(program.wait) == 2
        assert f"can't serve the page on 127.0.0.1:{stage.port}" in program.tail()


async def test_it_ends_in_good_order_with_browsers_on(stage: Stage) -> None:
    with stage.start() as program:
        await stage.ready()
        async with aiohttp.ClientSession() as session, session.ws_connect(stage.live) as client:
            await client.receive_json()
            ended = asyncio.create_task(asyncio.to_thread(program.terminate))
            async for _ in client:
                pass
            assert client.close_code == 1001
            assert await ended == 0


async def test_a_browser_that_shows_no_sign_of_life_is_dropped_though_frames_wait_for_it() -> None:
    story = Story(int(time.time()) - 100, 200)
    market = Market(("BTC-USD",), tuple(WINDOWS), "5m", time.time_ns() // 1000)
    hub = Hub("test", market, heartbeat_seconds=0.4)
    application = web.Application()
    application.router.add_get("/live", hub.serve)
    async with test_utils.TestServer(application) as server:
        assert server.port is not None
        _, writer = await _open_slowly(server.port)
        versions = 0

        async def came() -> bool:
            return len(hub) == 1

        async def dropped() -> bool:
            nonlocal versions
            versions += 1
            window = story.window("BTC-USD", "1m", 50, last_id=versions, now_us=time.time_ns() // 1000)
            raw = {b"BTC-USD/1m/50": msgspec.json.encode(window)}
            market.apply(Batch(raw, 1, {}, 0, [], [], loading=False), time.time_ns() // 1000)
            hub.publish(time.time_ns() // 1000, None)
            return versions > 1 and len(hub) == 0

        try:
            await until(came, "the browser is there")
            await until(dropped, "the browser is dropped")
        finally:
            writer.close()


async def test_a_feed_without_trades_so_far_is_waited_for(
    kafka: EmbeddedKafka, tmp_path: Path, browser: Browser
) -> None:
    stage = Stage(kafka, tmp_path)
    with stage.start() as program:
        await stage.ready()
        async with visit(browser, stage.url) as page:
            await expect(page.locator("#market-empty")).to_have_text("Waiting for the first trades …")
            await expect(page.locator("#link")).to_have_text("Waiting")
            stage.trade("BTC-USD", 70_000.5)
            await expect(row(page, "BTC-USD").locator(".price")).to_have_text("70,000.50")
            await expect(page.locator("#market-empty")).to_be_hidden()
        assert program.running
    stage.flush()
    delete_topics(kafka.bootstrap_servers, stage.feed)
