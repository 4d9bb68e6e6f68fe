"""Where in a product's history a time is: REST lists trades by id alone."""

from fulltape.coinbase.messages import parse_time_us
from fulltape.coinbase.rest import RestClient


async def first_id_since(rest: RestClient, product: str, since_us: int, *, within_seconds: float = 30.0) -> int | None:
    """Return the id of the first trade at or after ``since_us``; None where there is none yet.

    REST lists trades by id, whose times ascend, so the id is found by bisection: about 30 small answers.

    Raises:
        RestUnavailableError, ExchangeError: REST did not answer.

    """
    newest = await rest.trades(product, limit=1, within_seconds=within_seconds)
    if not newest.trades or parse_time_us(newest.trades[0].time) < since_us:
        return None
    low, high = 0, newest.trades[0].trade_id  # the trade with id `high` is late enough; with `low`, or below, none is
    while high - low > 1:
        middle = (low + high) // 2
        # the newest trade up to `middle`
        page = await rest.trades(product, after=middle + 1, limit=1, within_seconds=within_seconds)
        if page.trades and parse_time_us(page.trades[0].time) >= since_us:
            high = page.trades[0].trade_id
        else:
            low = middle
    return high
