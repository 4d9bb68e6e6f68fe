"""A synthetic market, seeded and pure: who trades when, at what price, and what happens on command.

- Arrivals of taker orders are a Hawkes process (Hawkes, 1971) with an exponential kernel, drawn by its cluster
  representation (Hawkes and Oakes, 1974): orders that come of themselves, each the parent of further ones.
- A taker order makes 1 to 32 trades with a power-law tail, all in one microsecond, walking away from the touch.
- The mid price is a jump diffusion (Merton, 1976) in event time, so returns are larger where orders cluster, with a
  log-normal stochastic volatility that reverts to its mean (Scott, 1987).

Floats stop where a price or a size is rounded to ticks or lots; from there on all is integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fulltape.errors import ConfigurationError
from fulltape.sandbox.products import Product
from fulltape.sandbox.trades import MAX_ORDER_TRADES, SIZE_DECIMALS, Block, Integers, Trades

Floats = npt.NDArray[np.float64]

_US_PER_SECOND = 1_000_000
_SECONDS_PER_YEAR = 365.25 * 86_400

_BLOCK_US = 100_000  # a change on command is felt with the next block
_BLOCK_TRADES = 2_000  # and a block is made in a few milliseconds, however high the rate

_FIRST_TRADE_ID = 1_000_000
_FIRST_SEQUENCE = 50_000_000

_ORDER_TRADES = np.arange(1, MAX_ORDER_TRADES + 1)
_ORDER_TAIL = 2.2  # exponent of the number of trades per order; about two thirds of orders make one, as on Coinbase
_ORDER_SHARES = _ORDER_TRADES**-_ORDER_TAIL / (_ORDER_TRADES**-_ORDER_TAIL).sum()
_ORDER_CUMULATIVE = np.cumsum(_ORDER_SHARES)
_MEAN_ORDER_TRADES = float(_ORDER_TRADES @ _ORDER_SHARES)

_CHILDREN = 0.6  # branching ratio of the Hawkes process: mean number of orders that one order sets off
_CHILD_DELAY_US = 80_000.0  # mean time until it does
_SAME_PRODUCT = 0.8  # share of those that are in the same product

_VOLATILITY_OF_VOLATILITY = 0.5  # standard deviation of the log volatility
_VOLATILITY_MEMORY_SECONDS = 60.0  # time in which a burst of volatility decays to 1/e
_JUMPS_PER_SECOND = 1 / 300
_JUMP_SIZE = 0.0015  # standard deviation of a jump's log return

_MEDIAN_NOTIONAL = 60.0
_NOTIONAL_SPREAD = 1.6  # standard deviation of the log of an order's value
_LARGEST_UNITS = 9 * 10 ** (10 + SIZE_DECIMALS)

_CRASH_BUSTLE = 8.0  # in a flash crash this many times as many orders arrive
_CRASH_SELLING = 0.85  # share of taker orders that sell while the price falls


@dataclass(frozen=True, slots=True)
class FlashCrash:
    """Prices of the products fall by ``depth``, a fraction, and then make good a share of it."""

    start_us: int
    products: npt.NDArray[np.bool_]
    depth: float
    fall_seconds: float
    recovery_seconds: float
    recovered: float

    @property
    def bottom_us(self) -> float:
        """When the price stops falling."""
        return self.start_us + self.fall_seconds * _US_PER_SECOND

    @property
    def end_us(self) -> float:
        """When the recovery ends."""
        return self.bottom_us + self.recovery_seconds * _US_PER_SECOND

    def displacement(self, times_us: Floats, product: npt.NDArray[np.intp]) -> Floats:
        """Return what the crash adds to the log price at each time."""
        floor = float(np.log1p(-self.depth))
        marks = [self.start_us, self.bottom_us, self.end_us]
        return np.interp(times_us, marks, [0.0, floor, floor * (1 - self.recovered)]) * self.products[product]

    def bustle(self, time_us: int) -> float:
        """Return how many times as many orders arrive."""
        if not self.start_us <= time_us < self.end_us:
            return 1.0
        return float(np.interp(time_us, [self.bottom_us, self.end_us], [_CRASH_BUSTLE, 1.0]))


class Market:
    """All products' trades, one `Block` after the other; the same seed and commands give the same market.

    Args:
        products: what is traded.
        rate: trades a second, all products together; a long-run mean, or exact with ``constant_rate``.
        seed: of everything random.
        constant_rate: orders come like clockwork, each when the rate allows for the trades before it.

    Raises:
        ConfigurationError: the rate is not above 0, or too high for distinct microseconds.

    """

    def __init__(self, products: Sequence[Product], *, rate: float, seed: int, constant_rate: bool = False) -> None:
        self.products = tuple(products)
        self._random = np.random.default_rng(seed)
        self._constant_rate = constant_rate
        weights = np.array([product.weight for product in products])
        self.shares: Floats = weights / weights.sum()
        self._cumulative_shares = np.cumsum(self.shares)
        self._ticks = np.array([product.tick for product in products], dtype=np.int64)
        self._tick_sizes = np.array([float(product.quote_increment) for product in products])
        self._lots = np.array([product.lot for product in products], dtype=np.int64)
        self._volatility = np.array([product.volatility for product in products]) / np.sqrt(_SECONDS_PER_YEAR)
        count = len(products)
        self._log_mid = np.log(np.array([product.price for product in products]))
        self._log_volatility = self._random.normal(0, _VOLATILITY_OF_VOLATILITY, count)
        self._next_id = np.full(count, _FIRST_TRADE_ID, dtype=np.int64)
        self._sequence = np.full(count, _FIRST_SEQUENCE, dtype=np.int64)
        self._previous_us = np.zeros(count, dtype=np.int64)
        self._time_us = 0
        self._last_order_us = 0
        self._children_us: Floats = np.zeros(0)
        self._children_product = np.zeros(0, dtype=np.intp)
        self._crashes: list[FlashCrash] = []
        self._spike: tuple[float, int] | None = None
        self._clockwork = (0.0, 0, 0)  # rate, since when, trades since then
        self.set_rate(rate)

    def set_rate(self, rate: float) -> None:
        """Set the trades per second from the next block on.

        Raises:
            ConfigurationError: the rate is not above 0, or too high for distinct microseconds.

        """
        if not 0 < rate <= 500_000:
            raise ConfigurationError(f"a rate of {rate:g} trades/s is not possible; choose one above 0, up to 500000")
        self.rate = rate

    def spike(self, rate: float, seconds: float) -> None:
        """Let ``rate`` trades a second come for so many seconds, then the former rate again.

        Raises:
            ConfigurationError: the rate is not above 0, or too high for distinct microseconds.

        """
        usual = self.rate
        self.set_rate(rate)
        self.rate = usual
        self._spike = (rate, self._time_us + round(seconds * _US_PER_SECOND))

    def flash_crash(
        self,
        product_ids: Sequence[str] = (),
        *,
        depth: float = 0.1,
        fall_seconds: float = 10.0,
        recovery_seconds: float = 60.0,
        recovered: float = 0.7,
    ) -> None:
        """Begin a flash crash of the named products, or of all.

        Raises:
            ConfigurationError: an unknown product, or a depth that is not between 0 and 1.

        """
        unknown = set(product_ids) - {product.product_id for product in self.products}
        if unknown:
            raise ConfigurationError(f"there is no product {', '.join(sorted(unknown))} in this sandbox")
        if not 0 < depth < 1:
            raise ConfigurationError(f"a flash crash of depth {depth:g} is not possible; choose between 0 and 1")
        chosen = np.array([not product_ids or product.product_id in product_ids for product in self.products])
        self._crashes.append(FlashCrash(self._time_us, chosen, depth, fall_seconds, recovery_seconds, recovered))

    def begin(self, now_us: int) -> Trades:
        """Start the market's clock; return one trade per product that opened it."""
        self._time_us = self._last_order_us = now_us
        self._previous_us[:] = now_us
        self._clockwork = (0.0, now_us, 0)
        every = np.arange(len(self.products))
        return self._trade(np.full(len(every), now_us, dtype=np.int64), every, np.ones(len(every), dtype=np.int64))

    def block(self) -> Block:
        """Return the next stretch: 100 ms, or less where the rate is high."""
        start_us = self._time_us
        rate = self._rate_at(start_us)
        end_us = start_us + max(1, int(min(_BLOCK_US, _BLOCK_TRADES / rate * _US_PER_SECOND)))
        if self._constant_rate:
            times_us, product, fills = self._clockwork_orders(rate, end_us)
        else:
            times_us, product = self._hawkes_orders(rate / _MEAN_ORDER_TRADES, start_us, end_us)
            fills = self._order_sizes(len(times_us))
        self._evolve_volatility((end_us - start_us) / _US_PER_SECOND)
        trades = self._trade(times_us, product, fills)
        self._time_us = max(end_us, self._last_order_us + 1)
        return Block(trades, trades.time_us, self._time_us)

    def _rate_at(self, time_us: int) -> float:
        if self._spike and time_us >= self._spike[1]:
            self._spike = None
        if self._spike:
            return self._spike[0]
        if self._constant_rate:
            return self.rate
        return self.rate * max([crash.bustle(time_us) for crash in self._crashes], default=1.0)

    def _order_sizes(self, count: int) -> Integers:
        drawn = np.searchsorted(_ORDER_CUMULATIVE, self._random.random(count), side="right") + 1
        return np.minimum(drawn, MAX_ORDER_TRADES)

    def _choose_products(self, count: int) -> npt.NDArray[np.intp]:
        drawn = np.searchsorted(self._cumulative_shares, self._random.random(count), side="right")
        return np.minimum(drawn, len(self.products) - 1)

    def _clockwork_orders(self, rate: float, end_us: int) -> tuple[Integers, npt.NDArray[np.intp], Integers]:
        """Return the orders whose turn comes before the end: an order waits for as long as its forerunner's trades."""
        since_rate, since_us, done = self._clockwork
        if rate != since_rate:
            since_us, done = self._time_us, 0
        due = int(np.ceil((end_us - since_us) / _US_PER_SECOND * rate)) - done
        sizes = self._order_sizes(max(due, 0))
        before = np.cumsum(sizes) - sizes
        sizes = sizes[before < due]
        before = before[before < due]
        times_us = since_us + ((done + before) / rate * _US_PER_SECOND).astype(np.int64)
        self._clockwork = (rate, since_us, done + int(sizes.sum()))
        return self._distinct(times_us), self._choose_products(len(sizes)), sizes

    def _hawkes_orders(self, rate: float, start_us: int, end_us: int) -> tuple[Integers, npt.NDArray[np.intp]]:
        """Return the orders in the stretch; the children that fall beyond it are kept for the next."""
        random = self._random
        immigrants = random.poisson(rate * (1 - _CHILDREN) * (end_us - start_us) / _US_PER_SECOND)
        due = self._children_us < end_us
        parents_us = np.concatenate([random.uniform(start_us, end_us, immigrants), self._children_us[due]])
        parents = np.concatenate([self._choose_products(immigrants), self._children_product[due]])
        later_us, later = [self._children_us[~due]], [self._children_product[~due]]
        all_us, all_products = [parents_us], [parents]
        while len(parents_us):
            children = random.poisson(_CHILDREN, len(parents_us))
            times_us = np.repeat(parents_us, children)
            times_us += random.exponential(_CHILD_DELAY_US, len(times_us))
            stays = random.random(len(times_us)) < _SAME_PRODUCT
            products = np.where(stays, np.repeat(parents, children), self._choose_products(len(times_us)))
            inside = times_us < end_us
            later_us.append(times_us[~inside])
            later.append(products[~inside])
            parents_us, parents = times_us[inside], products[inside]
            all_us.append(parents_us)
            all_products.append(parents)
        self._children_us, self._children_product = np.concatenate(later_us), np.concatenate(later)
        times_us = np.concatenate(all_us)
        order = np.argsort(times_us)
        return self._distinct(times_us[order].astype(np.int64)), np.concatenate(all_products)[order]

    def _distinct(self, times_us: Integers) -> Integers:
        """Push orders apart until no two share a microsecond, nor one with an earlier block."""
        if not len(times_us):
            return times_us
        steps = np.arange(len(times_us))
        apart = np.maximum.accumulate(np.maximum(times_us, self._last_order_us + 1) - steps) + steps
        self._last_order_us = int(apart[-1])
        return apart

    def _evolve_volatility(self, seconds: float) -> None:
        kept = np.exp(-seconds / _VOLATILITY_MEMORY_SECONDS)
        noise = self._random.normal(0, _VOLATILITY_OF_VOLATILITY * np.sqrt(1 - kept**2), len(self.products))
        self._log_volatility = self._log_volatility * kept + noise

    def _trade(self, times_us: Integers, product: npt.NDArray[np.intp], fills: Integers) -> Trades:
        """Turn orders, in order of time, into trades, in order of time."""
        by_product = np.argsort(product, kind="stable")
        times_us, product, fills = times_us[by_product], product[by_product], fills[by_product]
        starts = np.flatnonzero(np.diff(product, prepend=-1))  # of each product's orders
        mid_ticks, buys = self._walk(times_us, product, starts)
        notional = np.exp(self._random.normal(np.log(_MEDIAN_NOTIONAL), _NOTIONAL_SPREAD, len(fills)))
        slope = self._random.uniform(0, 1.5, len(fills))

        order = np.repeat(np.arange(len(fills)), fills)
        ends = np.cumsum(fills)
        fill = np.arange(len(order)) - np.repeat(ends - fills, fills)
        product_of = product[order]
        level = (fill * slope[order]).astype(np.int64)
        ticks = np.where(buys[order], mid_ticks[order] + 1 + level, mid_ticks[order] - level)
        price = np.maximum(ticks, 1) * self._ticks[product_of]
        share = self._random.uniform(0.2, 1.0, len(order)) / fills[order]
        base = notional[order] * share / (np.maximum(ticks, 1) * self._tick_sizes[product_of])
        lots = np.maximum((base * 10.0**SIZE_DECIMALS / self._lots[product_of]).astype(np.int64), 1)
        size = np.minimum(lots * self._lots[product_of], _LARGEST_UNITS)

        first = np.flatnonzero(np.diff(product_of, prepend=-1))  # of each product's trades
        counts = np.diff(first, append=len(order))
        here = product_of[first]
        trade_id = self._next_id[product_of] + np.arange(len(order)) - np.repeat(first, counts)
        steps = np.where(fill > 0, 2, 1 + self._random.geometric(0.05, len(order)))  # sparse: other events count too
        total = np.cumsum(steps)
        sequence = self._sequence[product_of] + total - np.repeat(total[first] - steps[first], counts)
        self._next_id[here] += counts
        self._sequence[here] = sequence[first + counts - 1]

        trades = Trades.of(
            product=product_of,
            trade_id=trade_id,
            price=price,
            size=size,
            maker_buys=~buys[order],
            time_us=times_us[order],
            sequence=sequence,
            fill=fill,
        )
        return trades.take(np.argsort(by_product[order], kind="stable"))

    def _walk(
        self, times_us: Integers, product: npt.NDArray[np.intp], starts: npt.NDArray[np.intp]
    ) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """Move each product's mid price from order to order; return it in ticks, and whether the taker buys."""
        random = self._random
        previous_us = np.roll(times_us, 1)
        previous_us[starts] = self._previous_us[product[starts]]
        seconds = (times_us - previous_us) / _US_PER_SECOND
        deviation = self._volatility[product] * np.exp(self._log_volatility[product]) * np.sqrt(seconds)
        moves = deviation * random.normal(size=len(product))
        jumps = random.random(len(product)) < _JUMPS_PER_SECOND * seconds
        moves += jumps * random.normal(0, _JUMP_SIZE, len(product))
        selling = np.full(len(product), 0.5)
        for crash in self._crashes:
            moves += crash.displacement(times_us.astype(np.float64), product)
            moves -= crash.displacement(previous_us.astype(np.float64), product)
            falling = (times_us >= crash.start_us) & (times_us < crash.bottom_us) & crash.products[product]
            selling[falling] = _CRASH_SELLING
        total = np.cumsum(moves)
        counts = np.diff(starts, append=len(product))
        log_mid = self._log_mid[product] + total - np.repeat(total[starts] - moves[starts], counts)
        ends = starts + counts - 1
        self._log_mid[product[starts]] = log_mid[ends]
        self._previous_us[product[starts]] = times_us[ends]
        mid_ticks = np.maximum(np.rint(np.exp(log_mid) / self._tick_sizes[product]).astype(np.int64), 1)
        return mid_ticks, random.random(len(product)) >= selling
