"""What a sandbox is started with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fulltape.sandbox.faults import Fault
from fulltape.sandbox.replay import Clock

Scenario = Literal["flash_crash", "spike"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """How a sandbox behaves; the defaults make a lively synthetic market on free ports, with Coinbase's own limits."""

    host: str = "127.0.0.1"
    port: int = 0
    """Of the WebSocket feed; 0 takes a free one."""
    rest_port: int = 0
    """Of REST and the admin endpoint; 0 takes a free one."""
    products: tuple[str, ...] = ()
    """Products of the synthetic market; all that the sandbox knows when empty."""
    rate: float | None = 200.0
    """Trades a second of the synthetic market, all products together; None as fast as the clients take them."""
    constant_rate: bool = False
    """Let the trades come like clockwork, at the rate exactly, rather than clustered around it."""
    seed: int = 1
    scenario: Scenario | None = None
    """Begin with this scenario of the synthetic market."""
    replay: tuple[Path, ...] = ()
    """Recordings to replay instead of the synthetic market."""
    speed: float | None = 1.0
    """Times as fast as recorded; None as fast as the clients take it."""
    clock: Clock = "now"
    """Whose time replayed trades bear."""
    wait_for_subscriber: bool = False
    """Make the first trade only when somebody has subscribed to matches."""
    count: int | None = None
    """Make so many trades and no more; heartbeats and REST go on."""
    faults: tuple[Fault, ...] = ()
    """Faults in force from the start."""
    limits: bool = True
    """Hold clients to Coinbase's limits per IP address."""
    compression: bool = True
    """Accept permessage-deflate when a client offers it."""
    history_trades: int = 2_000_000
    """How many trades REST remembers, shared out by how lively the products are; 37 bytes each."""
    subscribe_within_seconds: float = 5.0
    """A client that hasn't subscribed by then is disconnected."""
    slow_client_bytes: int = 32 * 2**20
    """A client that lets more than this wait for it is disconnected."""
