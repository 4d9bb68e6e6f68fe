"""The query reads and writes what `messages` says, no more and no less."""

import msgspec

from fulltape.measures.columns import PANE_SECONDS
from fulltape.messages import Pane, Trade
from fulltape_spark.query import pane_fields, trade_schema


def names(struct: type[msgspec.Struct]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(struct)]


def test_every_field_of_a_trade_is_read() -> None:
    schema = dict(column.split(" ") for column in trade_schema().split(", "))
    assert list(schema) == ["type", *names(Trade)]
    assert {schema["price"], schema["taker_side"], schema["previous_price"]} == {"STRING"}
    assert {schema["trade_id"], schema["sequence"], schema["run_start_us"]} == {"BIGINT"}


def test_every_field_of_a_pane_is_written_in_order() -> None:
    assert list(pane_fields()) == ["type", *names(Pane)]


def test_decimals_alone_are_written_as_strings() -> None:
    strings = {name for name, sql in pane_fields().items() if sql.endswith("AS STRING)")}
    assert {"volume", "open", "previous_price", "drawdown_peak", "largest_size"} <= strings
    assert not strings & {"product", "price_mean", "first_digits", "trades"}


def test_a_pane_is_a_second_as_its_key_assumes() -> None:
    assert PANE_SECONDS == 1
