"""One connection, against a real WebSocket server: every way a message can arrive, every way a connection can end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from fulltape.coinbase.websocket import Connection, connect
from fulltape.errors import ExchangeError

Handler = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def exchange(handler: Handler, compression: str | None = "deflate") -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, compression=compression) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


class Inbox:
    """Collects what a connection receives."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.times_us: list[int] = []
        self._arrived = asyncio.Event()

    def receive(self, messages: Sequence[bytes | bytearray], received_us: int) -> None:
        self.messages += map(bytes, messages)
        self.times_us.append(received_us)
        self._arrived.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.messages) < count:
                self._arrived.clear()
                await self._arrived.wait()


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_messages_arrive_whole_and_in_order_however_they_are_framed(compression: str | None) -> None:
    async def talk(client: ServerConnection) -> None:
        assert await client.recv() == "hello"
        for number in range(500):
            await client.send(f"message {number}")
        await client.send(["in ", "three ", "frames"])
        await client.send("x" * 200_000)
        await client.wait_closed()

    inbox = Inbox()
    async with exchange(talk, compression) as url:
        connection = await connect(url, inbox.receive)
        connection.send(b"hello")
        await inbox.until(502)
        connection.close()
    assert inbox.messages[:500] == [f"message {number}".encode() for number in range(500)]
    assert inbox.messages[500:] == [b"in three frames", b"x" * 200_000]
    assert inbox.times_us == sorted(inbox.times_us)


async def ended(handler: Handler) -> tuple[str, str]:
    async with exchange(handler) as url:
        connection = await connect(url, Inbox().receive)
        async with asyncio.timeout(10):
            return await connection.closed


async def test_a_close_frame_is_told_from_a_broken_line() -> None:
    async def close(client: ServerConnection) -> None:
        await client.close(1012, "maintenance")

    async def abort(client: ServerConnection) -> None:
        client.transport.abort()

    cause, detail = await ended(close)
    assert cause == "closed"
    assert "maintenance" in detail
    assert (await ended(abort))[0] == "lost"


async def test_bytes_that_are_no_frames_end_the_connection_as_a_protocol_error() -> None:
    async def babble(client: ServerConnection) -> None:
        client.transport.write(b"\xf3\x85 this is no WebSocket")
        await client.wait_closed()

    assert (await ended(babble))[0] == "protocol"


async def test_a_ping_is_answered() -> None:
    answered = asyncio.Event()

    async def ping(client: ServerConnection) -> None:
        await (await client.ping())
        answered.set()

    async with exchange(ping) as url:
        connection = await connect(url, Inbox().receive)
        async with asyncio.timeout(10):
            await answered.wait()
        connection.close()


async def test_a_paused_connection_leaves_everything_and_loses_nothing() -> None:
    async def talk(client: ServerConnection) -> None:
        await client.recv()
        for number in range(50):
            await client.send(str(number))
        await client.wait_closed()

    inbox = Inbox()
    async with exchange(talk) as url:
        connection: Connection = await connect(url, inbox.receive)
        connection.pause()
        connection.send(b"go")
        await asyncio.sleep(0.05)  # not a wait for a condition: nothing must happen in it
        assert inbox.messages == []
        connection.resume()
        await inbox.until(50)
        connection.close()
    assert inbox.messages == [str(number).encode() for number in range(50)]


async def test_what_can_not_be_connected_to_is_said() -> None:
    with pytest.raises(ExchangeError, match="no WebSocket address"):
        await connect("https://example.org", Inbox().receive)
    with pytest.raises(OSError, match="Connect call failed"):
        await connect("ws://127.0.0.1:1", Inbox().receive)


async def test_an_http_server_that_speaks_no_websocket_is_said() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError, match="404"):
            await connect(f"ws://127.0.0.1:{port}", Inbox().receive)


async def test_a_server_that_never_answers_is_given_up() -> None:
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError, match="no WebSocket handshake"):
            await connect(f"ws://127.0.0.1:{port}", Inbox().receive, timeout_seconds=0.3)
        await left.wait()
