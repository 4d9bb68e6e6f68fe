"""The synthetic market keeps Coinbase's invariants whatever the seed, the rate and the commands."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape.errors import ConfigurationError
from fulltape.sandbox.market import Market
from fulltape.sandbox.products import DEFAULT_PRODUCTS, choose_products
from fulltape.sandbox.trades import MAX_ORDER_TRADES, Trades

START_US = 1_783_465_096_000_000


def made(market: Market, blocks: int) -> Trades:
    opening = market.begin(START_US)
    return Trades.concatenate([opening, *(market.block().trades for _ in range(blocks))])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rate=st.sampled_from([1.0, 50.0, 3_000.0, 100_000.0, 500_000.0]),
    constant_rate=st.booleans(),
    crash=st.booleans(),
    count=st.integers(1, len(DEFAULT_PRODUCTS)),
)
def test_each_product_has_contiguous_ids_on_its_tick_in_order_of_time(
    *, seed: int, rate: float, constant_rate: bool, crash: bool, count: int
) -> None:
    products = DEFAULT_PRODUCTS[-count:]
    market = Market(products, rate=rate, seed=seed, constant_rate=constant_rate)
    if crash:
        market.begin(START_US)
        market.flash_crash(depth=0.5, fall_seconds=0.2, recovery_seconds=0.2)
    trades = made(market, 8)
    assert (np.diff(trades.time_us[count:]) >= 0).all()
    for number, product in enumerate(products):
        mine = trades.take(trades.product == number)
        assert (np.diff(mine.trade_id) == 1).all()
        assert (np.diff(mine.sequence) > 0).all()
        assert (mine.price > 0).all()
        assert (mine.price % product.tick == 0).all()
        assert (mine.size > 0).all()
        assert (mine.size % product.lot == 0).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), rate=st.sampled_from([100.0, 20_000.0, 500_000.0]), constant_rate=st.booleans())
def test_a_microsecond_holds_the_trades_of_one_order_and_no_more_than_32(
    *, seed: int, rate: float, constant_rate: bool
) -> None:
    market = Market(DEFAULT_PRODUCTS, rate=rate, seed=seed, constant_rate=constant_rate)
    market.begin(START_US)
    trades = Trades.concatenate([market.block().trades for _ in range(6)])
    order = np.cumsum(trades.fill == 0)
    assert len(np.unique(trades.time_us)) == len(np.unique(order))
    assert int(trades.fill.max(initial=0)) < MAX_ORDER_TRADES
    for column in (trades.time_us, trades.product, trades.maker_buys):
        assert (column[1:] == column[:-1])[np.diff(order) == 0].all()


def test_the_same_seed_makes_the_same_market() -> None:
    first, second, other = (made(Market(DEFAULT_PRODUCTS, rate=2_000, seed=seed), 5) for seed in (7, 7, 8))
    assert all((getattr(first, name) == getattr(second, name)).all() for name in Trades.__slots__)
    assert len(first) != len(other) or (first.price != other.price).any()


def test_a_constant_rate_is_exact() -> None:
    market = Market(DEFAULT_PRODUCTS, rate=12_345, seed=3, constant_rate=True)
    market.begin(START_US)
    count = 0
    while (block := market.block()).until_us < START_US + 10_000_000:
        count += len(block.trades)
    seconds = (block.until_us - START_US) / 1e6
    assert abs(count + len(block.trades) - 12_345 * seconds) <= MAX_ORDER_TRADES


def test_clustered_arrivals_keep_their_mean_and_exceed_poisson_variance() -> None:
    market = Market(DEFAULT_PRODUCTS, rate=2_000, seed=5)
    market.begin(START_US)
    orders = np.array([(market.block().trades.fill == 0).sum() for _ in range(3_000)])
    assert orders[100:].var() > 2 * orders[100:].mean()
    trades = np.array([len(market.block().trades) for _ in range(3_000)])
    assert trades.mean() == pytest.approx(200, rel=0.1)


def test_a_flash_crash_falls_by_its_depth_and_recovers_in_part() -> None:
    market = Market(choose_products(("BTC-USD", "ETH-USD")), rate=2_000, seed=1)
    market.begin(START_US)
    market.flash_crash(["BTC-USD"], depth=0.2, fall_seconds=5, recovery_seconds=5, recovered=0.5)
    trades = Trades.concatenate([market.block().trades for _ in range(150)])
    btc, eth = (trades.take(trades.product == number) for number in (0, 1))
    assert btc.price.min() / btc.price[0] == pytest.approx(0.8, abs=0.02)
    assert btc.price[-1] / btc.price[0] == pytest.approx(np.exp(np.log(0.8) / 2), abs=0.02)
    assert eth.price.min() / eth.price[0] > 0.97
    assert btc.maker_buys[: len(btc) // 3].mean() > 0.7


def test_a_spike_raises_the_rate_for_its_time_alone() -> None:
    market = Market(DEFAULT_PRODUCTS, rate=100, seed=1, constant_rate=True)
    market.begin(START_US)
    market.spike(10_000, seconds=1)
    times = np.concatenate([market.block().trades.time_us for _ in range(40)]) - START_US
    assert ((times >= 0) & (times < 1_000_000)).sum() == pytest.approx(10_000, rel=0.1)
    assert ((times >= 1_100_000) & (times < 2_100_000)).sum() == pytest.approx(100, rel=0.5)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), 1e9])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(ConfigurationError, match="is not possible; choose"):
        Market(DEFAULT_PRODUCTS, rate=rate, seed=1)


def test_an_impossible_crash_is_refused() -> None:
    market = Market(DEFAULT_PRODUCTS, rate=1, seed=1)
    with pytest.raises(ConfigurationError, match="no product NOPE-USD"):
        market.flash_crash(["NOPE-USD"])
    with pytest.raises(ConfigurationError, match="depth 1"):
        market.flash_crash(depth=1.0)


def test_products_are_chosen_by_name_once_each() -> None:
    assert [product.product_id for product in choose_products(("SHIB-USD", "BTC-USD"))] == ["SHIB-USD", "BTC-USD"]
    with pytest.raises(ConfigurationError, match="no product 'NOPE-USD'; choose from BTC-USD"):
        choose_products(("NOPE-USD",))
    with pytest.raises(ConfigurationError, match="BTC-USD is named twice"):
        choose_products(("BTC-USD", "BTC-USD"))
