"""The Kafka topics of a feed: their names and what each must be configured as."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topics:
    """The names of one feed's topics, all under one prefix."""

    prefix: str

    @property
    def trades(self) -> str:
        """The tape: `Trade` and `Gap`, keyed by product."""
        return f"{self.prefix}.trades"

    @property
    def ticker(self) -> str:
        """`Ticker`, keyed by product."""
        return f"{self.prefix}.ticker"

    @property
    def rejected(self) -> str:
        """`Rejected`: what the exchange sent and could not be used."""
        return f"{self.prefix}.rejected"

    @property
    def cursors(self) -> str:
        """`Cursor`, compacted, keyed by product and owner."""
        return f"{self.prefix}.cursors"

    @property
    def panes(self) -> str:
        """`Pane`, compacted, keyed by product and start: ``BTC-USD/1760129460`` (seconds)."""
        return f"{self.prefix}.panes"

    @property
    def windows(self) -> str:
        """`Window`, compacted, keyed by product, window and end: ``BTC-USD/1m/1760129520`` (seconds)."""
        return f"{self.prefix}.windows"

    @property
    def alerts(self) -> str:
        """`Alert`, keyed by fingerprint: every change, in order."""
        return f"{self.prefix}.alerts"
