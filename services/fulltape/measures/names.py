"""The measures of a window that an alert rule may name: what each is, and between which values it lies."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MeasureName:
    """What a rule needs to know of a measure; a threshold at or beyond a bound could never be crossed."""

    description: str
    least: float = 0.0
    most: float = math.inf
    needs_ticker: bool = False


_ANY = -math.inf

MEASURES = {
    "vwap": MeasureName("volume-weighted average price"),
    "sma": MeasureName("simple average of the trades' prices"),
    "twap": MeasureName("time-weighted average price"),
    "ema": MeasureName("exponentially weighted average price"),
    "priceChangeStdDev": MeasureName("standard deviation of the price changes from trade to trade"),
    "realizedVolatility": MeasureName("square root of the sum of squared log returns, over the window"),
    "annualizedVolatility": MeasureName("realized volatility scaled to a year; 0.5 is 50 %"),
    "bipowerVariation": MeasureName("sum of products of adjacent absolute returns: the variance without jumps"),
    "jumpRatio": MeasureName("share of the variance that comes from jumps", most=1.0),
    "parkinson": MeasureName("Parkinson's volatility, from high and low"),
    "garmanKlass": MeasureName("Garman and Klass's volatility, from open, high, low and close"),
    "rogersSatchell": MeasureName("Rogers and Satchell's volatility, which allows for a trend"),
    "ewmaVolatility": MeasureName("exponentially weighted volatility (RiskMetrics, 0.94)"),
    "volatilityZScore": MeasureName(
        "realized volatility against the trailing hour, in standard deviations", least=_ANY
    ),
    "drawdown": MeasureName("largest fall from a peak, as a fraction of the peak; 0.05 is 5 %", most=1.0),
    "runUp": MeasureName("largest rise from a trough, as a fraction of the trough; 0.05 is 5 %"),
    "orderFlowImbalance": MeasureName(
        "taker buy less taker sell volume, over their sum: the sentiment of the tape", least=-1.0, most=1.0
    ),
    "orderFlowZScore": MeasureName(
        "order-flow imbalance against the trailing hour, in standard deviations", least=_ANY
    ),
    "tradeRateZScore": MeasureName("trades per second against the trailing hour, in standard deviations", least=_ANY),
    "amihudIlliquidity": MeasureName("absolute return per unit of traded value"),
    "vwapDeviation": MeasureName("last price's distance from the VWAP, as a fraction of the VWAP", least=-1.0),
    "spread": MeasureName("best ask less best bid, as a fraction of their middle", needs_ticker=True),
    "spreadZScore": MeasureName(
        "spread against the trailing hour, in standard deviations", least=_ANY, needs_ticker=True
    ),
    "staleness": MeasureName("seconds since the last trade, at the window's end"),
    "trades": MeasureName("number of trades"),
    "recovery": MeasureName("share of the largest fall that the last price has won back; 1 is all of it"),
    "miniCrash": MeasureName("largest move of 10 or more ticks one way within 1.5 s, as a fraction", most=math.inf),
    "largestReturn": MeasureName("largest absolute log return from one trade to the next"),
    "firstDigitDeviation": MeasureName(
        "mean absolute deviation of the sizes' first digits from Benford's law", most=2 / 9
    ),
    "roundSizeShare": MeasureName("share of the trades whose size has one significant digit", most=1.0),
}
"""Every measure by its name in a feed."""
