"""A sandbox exchange: a server that a client of Coinbase Exchange can't tell from Coinbase, with faults on command."""

from fulltape.sandbox.config import SandboxConfig
from fulltape.sandbox.sandbox import Sandbox

__all__ = ["Sandbox", "SandboxConfig"]
