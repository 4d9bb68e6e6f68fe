"""`fulltape sandbox`: an exchange on this machine, for demos, tests and benchmarks."""

import asyncio
import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fulltape.sandbox.config import SandboxConfig
from fulltape.sandbox.faults import parse_fault_option
from fulltape.sandbox.replay import Recording, read_recording
from fulltape.sandbox.sandbox import Sandbox

_REFRESH_SECONDS = 0.5
_PLAIN_SECONDS = 10.0


class _NumberOrMax(click.ParamType[float | None]):
    """A number, or `max` for None."""

    name = "NUMBER|max"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if value == "max":
            return None
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor max", param, ctx)


@click.command("sandbox")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8765, show_default=True, help="Port of the WebSocket feed; 0 takes a free one.")
@click.option("--rest-port", default=8766, show_default=True, help="Port of REST and admin; 0 takes a free one.")
@click.option("--products", default="", help="Products of the synthetic market, with commas between; all by default.")
@click.option(
    "--rate", type=_NumberOrMax(), default="200", show_default=True, help="Trades/s; max: as fast as clients read."
)
@click.option("--constant-rate", is_flag=True, help="Trades like clockwork, at the rate exactly.")
@click.option("--seed", default=1, show_default=True, help="Seed of the synthetic market and of faults.")
@click.option("--scenario", type=click.Choice(["flash_crash", "spike"]), help="Begin with this scenario.")
@click.option(
    "--replay",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Replay recorded trades (CSV or NDJSON, .gz or not) instead; give it once for each file.",
)
@click.option(
    "--speed", type=_NumberOrMax(), default="1", show_default=True, help="Of a replay; max: as fast as clients read."
)
@click.option(
    "--clock",
    type=click.Choice(["now", "recorded"]),
    default="now",
    show_default=True,
    help="Whose time replayed trades bear.",
)
@click.option("--wait-for-subscriber", is_flag=True, help="Begin when somebody has subscribed to matches.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many trades; heartbeats and REST go on.")
@click.option("--fault", "faults", multiple=True, help="A fault from the start, such as drop,probability=0.001.")
@click.option(
    "--no-limits",
    is_flag=True,
    help="No limits per IP address: for benchmarks, where all clients share 127.0.0.1 and repair at full speed.",
)
@click.option("--no-compression", is_flag=True, help="Decline permessage-deflate.")
@click.option("--json", "as_json", is_flag=True, help="Print the addresses as one line of JSON, then nothing.")
def sandbox_command(
    *,
    products: str,
    faults: tuple[str, ...],
    no_limits: bool,
    no_compression: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run a sandbox exchange that behaves like Coinbase Exchange."""
    config = SandboxConfig(
        products=tuple(name for name in products.split(",") if name),
        faults=tuple(parse_fault_option(text) for text in faults),
        limits=not no_limits,
        compression=not no_compression,
        **options,
    )
    recording = _read(config, quiet=as_json) if config.replay else None
    uvloop.run(_serve(config, recording, as_json=as_json))


def _read(config: SandboxConfig, *, quiet: bool) -> Recording:
    console = Console(stderr=True, quiet=quiet or not sys.stderr.isatty())
    with console.status("reading the recording") as status:
        return read_recording(config.replay, lambda count: status.update(f"reading the recording: {count:,} trades"))


async def _serve(config: SandboxConfig, recording: Recording | None, *, as_json: bool) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with Sandbox(config, recording=recording) as sandbox:
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(stopped.wait()),
            asyncio.create_task(sandbox.run()),
        ]
        if as_json:
            click.echo(msgspec.json.encode({"websocket": sandbox.websocket_url, "rest": sandbox.rest_url}))
        else:
            tasks.append(asyncio.create_task(_show(sandbox)))
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for task in done:
            task.result()  # raises what broke the sandbox


async def _show(sandbox: Sandbox) -> None:
    """Show what goes on until cancelled: a live table at a terminal, a line now and then elsewhere."""
    console = Console()
    if not console.is_terminal:
        click.echo(f"websocket {sandbox.websocket_url}\nrest {sandbox.rest_url}")
        while True:
            await asyncio.sleep(_PLAIN_SECONDS)
            state = sandbox.state()
            click.echo(f"{state['trades']:,} trades, {state['clients']} clients, faults {state['struck'] or 'none'}")
    before, since = 0, time.monotonic()
    with Live(console=console, auto_refresh=False) as screen:
        while True:
            state, now = sandbox.state(), time.monotonic()
            screen.update(_table(state, (state["trades"] - before) / max(now - since, 1e-9)), refresh=True)
            before, since = state["trades"], now
            await asyncio.sleep(_REFRESH_SECONDS)


def _table(state: dict[str, Any], per_second: float) -> Table:
    table = Table(title="Fulltape sandbox exchange", show_header=False, title_justify="left")
    table.add_row("WebSocket", state["websocket"])
    table.add_row("REST, admin", state["rest"])
    table.add_row("trades", f"{state['trades']:,}" + ("" if state["begun"] else "  (waits for a subscriber)"))
    table.add_row("trades/s", f"{per_second:,.0f}")
    table.add_row("behind", f"{state['behind_seconds'] * 1000:.1f} ms")
    table.add_row("clients", f"{state['clients']}  ({state['slow_clients_dropped']} dropped as too slow)")
    table.add_row("faults", ", ".join(f"{name} {count:,}" for name, count in state["struck"].items()) or "none")
    return table
