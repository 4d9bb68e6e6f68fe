"""Every measure of one window of one product, from the sums over it and what surrounds it."""

from collections.abc import Mapping
from decimal import Decimal
from math import sqrt

import msgspec
import numpy as np

from fulltape.measures import flow, prices, volatility
from fulltape.measures.baseline import Baseline, z_score
from fulltape.measures.names import MEASURES
from fulltape.measures.prices import Floats, log_ratio
from fulltape.measures.sums import Sums

Measures = dict[str, float | None]
"""Every name of `MEASURES` and its value; None where the window does not determine it."""

_UNDETERMINED: Measures = dict.fromkeys(MEASURES)


class WindowContext(msgspec.Struct, frozen=True, gc=False):
    """What the measures of the window [`start_us`, `end_us`) need beside the sums of its own trades."""

    start_us: int
    end_us: int
    closes: Floats
    """The last price at the end of each second of the window; NaN before the first known."""
    baselines: Mapping[str, Baseline | None]
    """What is usual of ``realizedVolatility``, ``tradeRate``, ``orderFlowImbalance`` and ``spread``."""
    spread: float | None
    """The last known spread as a fraction of the middle."""
    last_trade_us: int | None
    """Time of the last trade before the window's end, within it or earlier."""
    last_price: Decimal | None
    """Its price."""


def window_measures(sums: Sums | None, context: WindowContext) -> Measures:
    """Return every measure of a window; ``sums`` are those of its trades, None where it holds none.

    Values are finite; None where the window does not determine one. `docs/measures.md` says when.
    """
    measures = _UNDETERMINED.copy()
    usual = context.baselines
    seconds = (context.end_us - context.start_us) / 1_000_000
    trades = 0 if sums is None else sums.trades

    measures["trades"] = trades
    measures["tradeRateZScore"] = z_score(trades / seconds, usual["tradeRate"])
    measures["spread"] = context.spread
    measures["spreadZScore"] = z_score(context.spread, usual["spread"])
    if context.last_trade_us is not None:
        measures["staleness"] = max(0.0, (context.end_us - context.last_trade_us) / 1_000_000)
    _of_closes(measures, context.closes)
    if sums is not None:
        _of_prices(measures, sums)
        _of_returns(measures, sums, seconds, usual["realizedVolatility"])
        _of_range(measures, sums)
        _of_falls(measures, sums)
        _of_flow(measures, sums, usual["orderFlowImbalance"])
    return measures


def _of_closes(measures: Measures, closes: Floats) -> None:
    """Fill in what follows from the last price of each second, of those that are known."""
    span = closes.size
    if closes[0] != closes[0]:
        closes = closes[~np.isnan(closes)]
    if closes.size:
        measures["twap"] = prices.twap(closes)
        measures["ema"] = prices.ema(closes, span)
    if closes.size > 1:
        measures["ewmaVolatility"] = volatility.ewma_volatility(volatility.log_returns(closes))


def _of_prices(measures: Measures, sums: Sums) -> None:
    """Fill in averages of the trades' prices."""
    measures["sma"] = sums.price_mean
    if sums.notional:
        measures["vwap"] = prices.vwap(float(sums.notional), float(sums.volume))
        measures["vwapDeviation"] = prices.vwap_deviation(sums.close, sums.notional, sums.volume)


def _of_returns(measures: Measures, sums: Sums, seconds: float, usual: Baseline | None) -> None:
    """Fill in what follows from the changes from trade to trade."""
    if not sums.changes:
        return
    realized = volatility.realized_volatility(sums.return_squares)
    measures["realizedVolatility"] = realized
    measures["annualizedVolatility"] = volatility.annualized(realized, seconds)
    measures["volatilityZScore"] = z_score(realized, usual)
    measures["largestReturn"] = sums.largest_return
    if sums.changes > 1:
        measures["priceChangeStdDev"] = volatility.sample_deviation(sums.change_sum, sums.change_squares, sums.changes)
    if sums.return_pairs:
        bipower = volatility.bipower_from_sum(sums.bipower, sums.changes, sums.return_pairs)
        measures["bipowerVariation"] = bipower
        if sums.return_squares:
            measures["jumpRatio"] = volatility.jump_ratio(sums.return_squares, bipower)


def _of_range(measures: Measures, sums: Sums) -> None:
    """Fill in volatilities of the window as one bar."""
    opens, high, low, close = sums.open, sums.high, sums.low, sums.close
    high_open, low_open = log_ratio(high, opens), log_ratio(low, opens)
    high_low = high_open - low_open  # one is never below zero and the other never above: no digit is lost
    measures["parkinson"] = sqrt(volatility.parkinson_variance(high_low))
    measures["garmanKlass"] = sqrt(volatility.garman_klass_variance(high_low, log_ratio(close, opens)))
    measures["rogersSatchell"] = sqrt(
        volatility.rogers_satchell_variance(high_open, log_ratio(high, close), low_open, log_ratio(low, close))
    )


def _of_falls(measures: Measures, sums: Sums) -> None:
    """Fill in falls and rises within the window."""
    measures["drawdown"] = sums.drawdown
    measures["runUp"] = sums.run_up
    measures["miniCrash"] = sums.mini_crash
    depth = sums.drawdown_peak - sums.drawdown_trough
    if depth:
        measures["recovery"] = float(sums.close - sums.drawdown_trough) / float(depth)


def _of_flow(measures: Measures, sums: Sums, usual: Baseline | None) -> None:
    """Fill in what follows from sizes and sides."""
    imbalance = flow.order_flow_imbalance(sums.buy_volume, sums.volume)
    measures["orderFlowImbalance"] = imbalance
    measures["orderFlowZScore"] = z_score(imbalance, usual)
    if sums.bars:
        measures["amihudIlliquidity"] = sums.illiquidity / sums.bars
    if sums.trades >= flow.BENFORD_TRADES:
        measures["firstDigitDeviation"] = flow.benford_deviation(sums.first_digits)
    measures["roundSizeShare"] = sums.round_sizes / sums.trades
