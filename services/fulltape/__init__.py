"""Fulltape: every trade, exactly once, in tens of milliseconds."""

__version__ = "0.1.0"
