"""Every record becomes one row, exactly, or is counted; none holds up another."""

from datetime import datetime
from decimal import Decimal

import msgspec
import pytest

from fulltape.messages import Alert, Gap, Ticker, Trade
from fulltape.warehouse.tables import TABLES, arrow_schema
from fulltape_spark.archive_rows import Clock, Found, joined, rows_of

TRADE = Trade(
    product="BTC-USD",
    trade_id=7,
    price="65000.01",
    size="0.00000001",
    taker_side="buy",
    time_us=1_760_000_000_000_001,
    sequence=9,
    received_us=1_760_000_000_000_500,
    source="stream",
    previous_price=None,
    second_previous_price=None,
    run_ticks=0,
    run_start_us=None,
    run_start_price=None,
    pane_high="65000.01",
    pane_low="65000.01",
)
CLOCK = Clock(late_us=0, ahead_us=600_000_000)
TAPE_US = 1_760_000_000_001_000


def found(*trades: Trade | bytes | None, clock: Clock = CLOCK) -> Found:
    values = [msgspec.json.encode(one) if isinstance(one, Trade) else one for one in trades]
    return rows_of("trades", values, [TAPE_US] * len(values), clock)


def with_(**changes: object) -> Trade:
    return msgspec.structs.replace(TRADE, **changes)


def test_a_trade_becomes_a_row_to_the_last_digit() -> None:
    rows = found(TRADE).rows["trades"]
    assert rows.table.schema.equals(arrow_schema(TABLES["trades"]))
    assert rows.table.to_pylist() == [
        {
            "product": "BTC-USD",
            "trade_id": 7,
            "traded_at": datetime(2025, 10, 9, 8, 53, 20, 1),  # noqa: DTZ001 - as the table has it
            "price": Decimal("65000.01"),
            "size": Decimal("0.00000001"),
            "taker_side": "buy",
            "sequence": 9,
            "received_at": datetime(2025, 10, 9, 8, 53, 20, 500),  # noqa: DTZ001
            "tape_at": datetime(2025, 10, 9, 8, 53, 20, 1_000),  # noqa: DTZ001
            "source": "stream",
            "late": False,
        }
    ]
    assert (rows.first_us, rows.last_us, rows.tape_us) == (TRADE.time_us, TRADE.time_us, TAPE_US)


@pytest.mark.parametrize(
    ("price", "size"), [("0.0000000001", "92233720368.00000001"), ("900000000.0000000001", "0.00000001")]
)
def test_the_least_and_the_most_of_a_column_are_exact(price: str, size: str) -> None:
    (row,) = found(with_(price=price, size=size)).rows["trades"].table.to_pylist()
    assert (row["price"], row["size"]) == (Decimal(price), Decimal(size))


@pytest.mark.parametrize(
    "unusable",
    [
        None,
        b"",
        b"no json",
        b"\xff",
        b"[" * 100_000,
        b'{"type":"trade"}',
        b'{"type":"new"}',
        with_(price="0"),
        with_(price="-1"),
        with_(price="NaN"),
        with_(price="0.00000000001"),
        with_(size="1e30"),
        with_(size=""),
        with_(time_us=0),
        with_(time_us=2**62),
        with_(trade_id=2**63),
        with_(product="A" * 33),
    ],
)
def test_what_is_no_trade_is_counted_and_takes_no_other_along(unusable: Trade | bytes | None) -> None:
    result = found(TRADE, with_(trade_id=8), unusable, with_(trade_id=9))
    assert result.unusable == 1
    assert result.rows["trades"].table["trade_id"].to_pylist() == [7, 8, 9]


def test_a_trade_of_a_second_that_the_watermark_has_passed_is_late() -> None:
    second = TRADE.time_us // 1_000_000 * 1_000_000
    result = found(TRADE, with_(time_us=second + 999_999), with_(time_us=second + 1_000_000), clock=Clock(second, 0))
    assert result.rows["trades"].table["late"].to_pylist() == [True, True, False]
    assert result.late == 2


def test_a_trade_that_claims_to_be_from_the_future_is_stored_and_moves_no_clock() -> None:
    ahead = with_(time_us=TAPE_US + CLOCK.ahead_us + 1)
    result = found(TRADE, ahead)
    assert result.rows["trades"].last_us == ahead.time_us
    assert result.newest_us == TRADE.time_us
    assert found(ahead).newest_us == 0


def test_gaps_stand_among_trades_and_go_to_their_own_table() -> None:
    result = found(TRADE, msgspec.json.encode(Gap("BTC-USD", 5, 6, "404", 17)))
    assert {kind: rows.table.num_rows for kind, rows in result.rows.items()} == {"trades": 1, "gaps": 1}


def test_tickers_may_have_an_empty_side() -> None:
    quote = Ticker("BTC-USD", 7, "1.5", "2", "buy", "0", "0", "1.6", "3", 17, 8, 18)
    (row,) = rows_of("ticker", [msgspec.json.encode(quote)], [TAPE_US], CLOCK).rows["tickers"].table.to_pylist()
    assert (row["best_bid"], row["best_ask_size"]) == (0, 3)


def test_objects_of_an_alert_become_json() -> None:
    alert = Alert("A", "f", "firing", None, "1m", "info", "s", {"x": 1.5}, {"a": "b"}, {}, 1, None, None, None, 5)
    (row,) = rows_of("alerts", [msgspec.json.encode(alert)], [TAPE_US], CLOCK).rows["alerts"].table.to_pylist()
    assert (row["measures"], row["labels"], row["annotations"]) == ('{"x":1.5}', '{"a":"b"}', "{}")
    assert (row["product"], row["window_length"], row["starts_at"]) == (None, "1m", None)


def test_rows_are_joined_in_order() -> None:
    first, second = (found(with_(trade_id=number, time_us=number)).rows["trades"] for number in (1, 2))
    rows = joined([first, second])
    assert rows.table["trade_id"].to_pylist() == [1, 2]
    assert (rows.first_us, rows.last_us) == (1, 2)
