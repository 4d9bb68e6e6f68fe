"""The browsers that look on: each is sent the newest state when it has taken the last frame, and never queues more.

What a slow browser misses is never sent: when it is ready again it gets what is new since its last frame, at once.
Browsers that have the same get the same bytes, encoded once.
"""

import asyncio
import logging
import socket
from typing import Annotated

import msgspec
from aiohttp import WSMsgType, web

from fulltape.dashboard import frames
from fulltape.dashboard.frames import OVERVIEW, View
from fulltape.dashboard.health import HealthReport
from fulltape.dashboard.market import Market
from fulltape.messages import UNDECODABLE

LOG = logging.getLogger(__name__)

_LEAST_SECONDS = 0.008
"""Between two frames; half a frame of a screen."""
_BROWSER_SECONDS = 0.0001
"""Each browser adds so much, a few times what a frame to it costs: 500 leave most of a core to the rest."""
_IDLE_SECONDS = 0.1
_SEND_BUFFER_BYTES = 64 * 1024
"""What the kernel may hold for a browser: more would only make slow ones see older news."""
_MESSAGE_BYTES = 1024


def spacing_seconds(browsers: int) -> float:
    """Return how long to wait between two frames."""
    return _LEAST_SECONDS + browsers * _BROWSER_SECONDS if browsers else _IDLE_SECONDS


class _Look(msgspec.Struct):
    """The one thing that a browser may say: what it looks at."""

    view: Annotated[str, msgspec.Meta(max_length=64)] | None


_decode_look = msgspec.json.Decoder(_Look).decode


class Browser:
    """One connection."""

    def __init__(self, connection: web.WebSocketResponse) -> None:
        self.connection = connection
        self.view: View = OVERVIEW
        self.since = 0
        """The version of the market that it has."""
        self.wake = asyncio.Event()

    def look_at(self, view: View) -> None:
        """Begin another view."""
        self.view, self.since = view, 0
        self.wake.set()


class Hub:
    """All browsers.

    Args:
        feed: its name.
        market: what they look at.
        heartbeat_seconds: one that shows no sign of life for one and a half times this is dropped.

    """

    def __init__(self, feed: str, market: Market, heartbeat_seconds: float) -> None:
        self._feed = feed
        self._market = market
        self._heartbeat_seconds = heartbeat_seconds
        self._browsers: set[Browser] = set()
        self._frames: dict[tuple[View, int], bytes | None] = {}
        self._report: HealthReport | None = None
        self._report_version = 0
        self._now_us = 0
        self.frames_sent = 0

    def __len__(self) -> int:
        return len(self._browsers)

    def publish(self, now_us: int, report: HealthReport | None) -> None:
        """Let browsers know that the market has changed; ``report`` is a new one or None."""
        self._now_us = now_us
        if report is not None:
            self._report, self._report_version = report, self._market.version
        self._frames.clear()
        for browser in self._browsers:
            browser.wake.set()

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Follow one browser until it leaves."""
        connection = web.WebSocketResponse(
            compress=False, heartbeat=self._heartbeat_seconds, max_msg_size=_MESSAGE_BYTES, writer_limit=0
        )
        await connection.prepare(request)
        transport = request.transport
        assert transport is not None  # the connection was just answered
        transport.set_write_buffer_limits(high=0)  # a send ends when the kernel has all of it
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        browser = Browser(connection)
        self._browsers.add(browser)
        sending = asyncio.create_task(self._send(browser))
        try:
            await self._listen(browser)
        finally:
            self._browsers.discard(browser)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            if transport.get_write_buffer_size():
                transport.abort()  # it does not read: an orderly end would wait for it
        return connection

    async def close(self) -> None:
        """Send all browsers away: the server is going down."""
        browsers = list(self._browsers)
        closing = [browser.connection.close(code=1001, message=b"the server is going down") for browser in browsers]
        await asyncio.gather(*closing, return_exceptions=True)

    async def _listen(self, browser: Browser) -> None:
        async for message in browser.connection:
            if message.type is not WSMsgType.TEXT:
                break
            try:
                view = _decode_look(message.data).view
            except UNDECODABLE:
                await browser.connection.close(code=1008, message=b'say {"view": null} or {"view": "BTC-USD"}')
                break
            if view is not OVERVIEW and view not in self._market.products:
                await browser.connection.close(code=1008, message=b"this feed has no such product")
                break
            browser.look_at(view)

    async def _send(self, browser: Browser) -> None:
        send = browser.connection.send_frame
        try:
            await send(frames.hello(self._feed, self._market), WSMsgType.TEXT)
            while True:
                browser.wake.clear()
                frame, version = self._frame(browser.view, browser.since), self._market.version
                browser.since = version
                if frame is not None:
                    self.frames_sent += 1
                    await send(frame, WSMsgType.TEXT)
                await browser.wake.wait()
        except ConnectionError:  # it left
            return
        except Exception:
            LOG.exception("can't tell a browser of %s", browser.view or "the overview")
            await browser.connection.close(code=1011)

    def _frame(self, view: View, since: int) -> bytes | None:
        key = (view, since)
        if key not in self._frames:
            report = self._report if self._report_version > since else None
            self._frames[key] = frames.update(self._market, view, since, report, self._now_us)
        return self._frames[key]
