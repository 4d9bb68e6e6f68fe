"""The products that the sandbox lists: increments and price levels as on Coinbase, and how lively each is."""

from dataclasses import dataclass
from decimal import Decimal

from fulltape.errors import ConfigurationError
from fulltape.sandbox.trades import PRICE_DECIMALS, SIZE_DECIMALS


@dataclass(frozen=True, slots=True)
class Product:
    """One product. The last three fields shape the synthetic market alone."""

    product_id: str
    quote_increment: Decimal
    """The tick: every price is a multiple."""
    base_increment: Decimal
    """Every size is a multiple."""
    price: float = 1.0
    """Where the synthetic market opens."""
    weight: float = 1.0
    """Share of all trades, relative to the other products."""
    volatility: float = 0.8
    """Standard deviation of the log return over a year."""

    @property
    def tick(self) -> int:
        """The tick in units of 10**-PRICE_DECIMALS."""
        return int(self.quote_increment.scaleb(PRICE_DECIMALS))

    @property
    def lot(self) -> int:
        """The base increment in units of 10**-SIZE_DECIMALS."""
        return int(self.base_increment.scaleb(SIZE_DECIMALS))


DEFAULT_PRODUCTS = tuple(
    Product(product_id, Decimal(tick), Decimal(lot), price, weight, volatility)
    for product_id, tick, lot, price, weight, volatility in (
        ("BTC-USD", "0.01", "0.00000001", 63_519.0, 30, 0.45),
        ("ETH-USD", "0.01", "0.00000001", 1_774.0, 22, 0.65),
        ("SOL-USD", "0.01", "0.00000001", 148.0, 14, 0.85),
        ("XRP-USD", "0.0001", "0.000001", 2.21, 9, 0.80),
        ("DOGE-USD", "0.00001", "0.1", 0.1642, 6, 0.95),
        ("ADA-USD", "0.0001", "0.00000001", 0.5871, 4, 0.85),
        ("LINK-USD", "0.001", "0.01", 13.42, 4, 0.85),
        ("AVAX-USD", "0.01", "0.00000001", 18.07, 3, 0.90),
        ("LTC-USD", "0.01", "0.00000001", 86.4, 3, 0.75),
        ("ATOM-USD", "0.001", "0.01", 4.06, 2, 0.85),
        ("SHIB-USD", "0.00000001", "1", 0.00001163, 2, 1.00),
        ("BONK-USD", "0.00000001", "1", 0.00001725, 1, 1.30),
    )
)


def choose_products(product_ids: tuple[str, ...]) -> tuple[Product, ...]:
    """Return the named default products in the order given; all of them when none is named.

    Raises:
        ConfigurationError: a name that the sandbox doesn't list, or one named twice.

    """
    listed = {product.product_id: product for product in DEFAULT_PRODUCTS}
    if not product_ids:
        return DEFAULT_PRODUCTS
    for position, product_id in enumerate(product_ids):
        if product_id not in listed:
            raise ConfigurationError(f"the sandbox has no product {product_id!r}; choose from {', '.join(listed)}")
        if product_id in product_ids[:position]:
            raise ConfigurationError(f"product {product_id} is named twice; name it once")
    return tuple(listed[product_id] for product_id in product_ids)
