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
