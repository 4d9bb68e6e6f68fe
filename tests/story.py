"""A market with a story, for tests that look at the end of the live path: trades, windows and alerts as they would be.

The prices are a random walk by the second, with a flash crash in one product if asked for. Measures are plausible, not
exact: what holds them to the trades is tested where they are computed.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fulltape.measures.names import MEASURES
from fulltape.messages import Alert, Trade, Window

PRICES = {
    "BTC-USD": (67_412.18, 2, 0.42),
    "ETH-USD": (3_518.44, 2, 0.55),
    "SOL-USD": (172.36, 2, 0.80),
    "XRP-USD": (0.5231, 4, 0.70),
    "DOGE-USD": (0.15872, 5, 0.95),
    "ADA-USD": (0.4519, 4, 0.75),
    "AVAX-USD": (36.91, 2, 0.85),
    "LINK-USD": (17.184, 3, 0.80),
    "LTC-USD": (83.72, 2, 0.65),
    "ATOM-USD": (8.431, 3, 0.75),
}
"""First price, decimals and annualized volatility of each product."""

PRODUCTS = tuple(PRICES)
WINDOWS = {"1m": 60, "5m": 300}
_YEAR_SECONDS = 365 * 86_400


@dataclass
class Story:
    """A market of so many seconds from ``start`` (seconds since the epoch) on."""

    start: int
    seconds: int = 1800
    crash: tuple[str, int] | None = None
    """The product that crashes and the second of the story in which it begins."""
    seed: int = 7
    closes: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    flows: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Order-flow imbalance of each second."""

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        for product, (price, _, volatility) in PRICES.items():
            steps = random.normal(0, volatility / math.sqrt(_YEAR_SECONDS), self.seconds) * 1.6
            steps += np.sin(np.arange(self.seconds) / random.uniform(90, 260)) * volatility * 1.2e-5
            swell = np.convolve(random.normal(0, 1, self.seconds + 60), np.ones(61) / 61, "valid")
            flows = np.clip(swell * 2.4 + random.normal(0, 0.1, self.seconds), -1, 1)
            if self.crash is not None and self.crash[0] == product:
                at = self.crash[1]
                steps[at : at + 40] -= 0.0024 + random.normal(0, 0.0016, 40)
                steps[at + 40 : at + 150] += 0.00055 + random.normal(0, 0.0009, 110)
                flows[at : at + 40] = random.uniform(-0.95, -0.55, 40)
                flows[at + 40 : at + 120] = random.uniform(0, 0.6, 80)
            self.closes[product] = price * np.exp(np.cumsum(steps))
            self.flows[product] = flows

    def text(self, product: str, price: float) -> str:
        """Write a price as the exchange does."""
        return f"{price:.{PRICES[product][1]}f}"

    def window(self, product: str, window: str, second: int, *, last_id: int, now_us: int, price: str = "") -> Window:
        """Return the window that ends with a second of the story; ``price`` is the last one if it is not the close."""
        length = WINDOWS[window]
        closes = self.closes[product][max(0, second - length) : second + 1]
        flow = float(self.flows[product][max(0, second - length) : second + 1].mean())
        returns = np.diff(np.log(closes)) if len(closes) > 1 else np.zeros(1)
        realized = float(np.sqrt((returns**2).sum()))
        usual = PRICES[product][2] / math.sqrt(_YEAR_SECONDS) * math.sqrt(length) * 1.6
        vwap = float(closes.mean())
        last_price = price or self.text(product, closes[-1])
        volume, buys = 41.5 * length / 60, 41.5 * length / 60 * (1 + flow) / 2
        end_us = (self.start + second + 1) * 1_000_000
        measures: dict[str, float | None] = dict.fromkeys(MEASURES)
        measures |= {
            "vwap": vwap,
            "sma": vwap * 1.00001,
            "twap": vwap,
            "ema": float(closes[-20:].mean()),
            "priceChangeStdDev": float(np.diff(closes).std()) if len(closes) > 1 else None,
            "realizedVolatility": realized,
            "annualizedVolatility": realized * math.sqrt(_YEAR_SECONDS / length),
            "bipowerVariation": realized**2 * 0.93,
            "jumpRatio": 0.07,
            "parkinson": realized * 0.97,
            "garmanKlass": realized * 0.95,
            "rogersSatchell": realized * 0.96,
            "ewmaVolatility": realized / math.sqrt(length),
            "volatilityZScore": (realized / usual - 1) * 4,
            "drawdown": float((1 - closes / np.maximum.accumulate(closes)).max()),
            "runUp": float((closes / np.minimum.accumulate(closes) - 1).max()),
            "orderFlowImbalance": flow,
            "orderFlowZScore": flow * 6,
            "tradeRateZScore": (realized / usual - 1) * 2.5,
            "amihudIlliquidity": 2.1e-9,
            "vwapDeviation": float(last_price) / vwap - 1,
            "spread": 1.4e-5,
            "spreadZScore": 0.3,
            "staleness": 0.04,
            "trades": 18.0 * length,
            "miniCrash": 0.0,
            "largestReturn": float(np.abs(returns).max()),
            "firstDigitDeviation": 0.021,
            "roundSizeShare": 0.118,
        }
        return Window(
            product=product,
            window=window,
            start_us=end_us - length * 1_000_000,
            end_us=end_us,
            trades=18 * length,
            missing=0,
            volume=f"{volume:.8f}",
            notional=f"{volume * vwap:.4f}",
            buy_volume=f"{buys:.8f}",
            open=self.text(product, closes[0]),
            high=self.text(product, closes.max()),
            low=self.text(product, closes.min()),
            close=last_price,
            last_price=last_price,
            last_id=last_id,
            largest_size="2.50000000",
            measures=measures,
            trade_us=now_us,
            received_us=now_us + 900,
            tape_us=now_us + 6_000,
            pane_us=now_us + 11_000,
            published_us=now_us + 13_000,
        )

    def trade(self, product: str, trade_id: int, price: float, time_us: int, pick: float) -> Trade:
        """Return a trade; ``pick``, from 0 to 1, chooses its size and its taker's side."""
        text = self.text(product, price)
        return Trade(
            product=product,
            trade_id=trade_id,
            price=text,
            size=f"{pick**6 * 40_000 / PRICES[product][0] + 0.01:.{2 if PRICES[product][0] < 1000 else 8}f}",
            taker_side="buy" if math.sin(pick * 997) > 0 else "sell",
            time_us=time_us,
            sequence=trade_id * 3,
            received_us=time_us + 900,
            source="stream",
            previous_price=text,
            second_previous_price=text,
            run_ticks=1,
            run_start_us=time_us,
            run_start_price=text,
            pane_high=text,
            pane_low=text,
        )


def alert(
    name: str, product: str, state: str, starts_us: int, summary: str, *, severity: str = "warning", window: str = "1m"
) -> Alert:
    """Return a change of an alert's state, as the monitor publishes it."""
    return Alert(
        name=name,
        fingerprint=f"{name}/{product}/{window}",
        state=state,  # type: ignore[arg-type]
        product=product,
        window=window,
        severity=severity,  # type: ignore[arg-type]
        summary=summary,
        values={},
        labels={"alertname": name, "product": product},
        annotations={"summary": summary},
        since_us=starts_us - 2_000_000,
        starts_us=starts_us,
        ends_us=starts_us + 95_000_000 if state == "resolved" else None,
        trade_us=starts_us,
        changed_us=starts_us + 60_000,
    )


def history(story: Story, seconds: range, products: Sequence[str] = PRODUCTS) -> Iterator[Window]:
    """Yield every window that ends within some seconds of the story, each once."""
    for second in seconds:
        at_us = (story.start + second) * 1_000_000
        for product in products:
            for window in WINDOWS:
                yield story.window(product, window, second, last_id=1_000 + second * 18, now_us=at_us)
