"""The end of a product's tape, and what a trade owes to its place there: previous prices, extremes, the run of ticks.

Pure. The rule for runs follows Nanex's description of a "mini crash" (2010): ticks in one direction before one in the
other; a trade at the same price is no tick.
"""

from fulltape.coinbase.messages import TAKER_OF_MAKER, Match, RestTrade
from fulltape.decimals import compare_decimals
from fulltape.messages import Source, Trade

_PANE_US = 1_000_000


class Tail:
    """Turns the trades of one product, in order, into tape records. Lost ids in between change nothing here."""

    __slots__ = ("_product", "last")

    def __init__(self, product: str, last: Trade | None) -> None:
        self._product = product
        self.last = last
        """The newest trade on the tape, whose fields are the whole state."""

    def append(self, trade: Match | RestTrade, time_us: int, received_us: int, source: Source) -> Trade:
        """Return ``trade`` as it stands on the tape. Its price and size have been checked."""
        last = self.last
        price = trade.price
        high = low = price
        if last is None:
            previous = second_previous = run_start_price = run_start_us = None
            run = 0
        else:
            if last.time_us // _PANE_US == time_us // _PANE_US:
                high = last.pane_high if compare_decimals(last.pane_high, price) > 0 else price
                low = last.pane_low if compare_decimals(last.pane_low, price) < 0 else price
            previous = last.price
            second_previous = last.previous_price
            run, run_start_us, run_start_price = last.run_ticks, last.run_start_us, last.run_start_price
            if price != previous:
                tick = compare_decimals(price, previous)
                if tick * run > 0:
                    run += tick
                elif tick:
                    run, run_start_us, run_start_price = tick, last.time_us, previous
        self.last = result = Trade(
            self._product,
            trade.trade_id,
            price,
            trade.size,
            TAKER_OF_MAKER[trade.side],
            time_us,
            trade.sequence if isinstance(trade, Match) else None,
            received_us,
            source,
            previous,
            second_previous,
            run,
            run_start_us,
            run_start_price,
            high,
            low,
        )
        return result
