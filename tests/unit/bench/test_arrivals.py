"""Each trade's latency is that of the first message which reflects it, however many trades that message tells of."""

import numpy as np

from fulltape.bench.arrivals import Pause, Trades, latencies_us, marks, pauses, unseen


def trades(*rows: tuple[int, int]) -> Trades:
    ids, times = np.array(rows, np.int64).T
    return Trades(ids, times, times + 1000)


def test_a_trade_arrives_with_the_first_message_of_its_id_or_a_later_one() -> None:
    tape = {"BTC-USD": trades((1, 100), (2, 200), (3, 300), (4, 400))}
    seen = marks([("BTC-USD", 2, 1000), ("ETH-USD", 9, 1500), ("BTC-USD", 1, 2000), ("BTC-USD", 3, 3000)])
    assert sorted(latencies_us(tape, seen, 0, 500)) == [800, 900, 2700]
    assert unseen(tape, seen, 0, 500) == 1


def test_only_trades_of_the_measured_stretch_count() -> None:
    tape = {"BTC-USD": trades((1, 100), (2, 200), (3, 300))}
    seen = marks([("BTC-USD", 3, 1000)])
    assert list(latencies_us(tape, seen, 200, 300)) == [800]
    assert list(latencies_us({"BTC-USD": trades((2, 200))}, seen, 200, 300, since_tape=True)) == [-200]


def test_a_product_that_nothing_tells_of_is_unseen() -> None:
    assert unseen({"BTC-USD": trades((1, 100), (2, 200))}, {}, 0, 150) == 1


def test_trades_that_took_long_within_a_second_of_each_other_are_one_pause_of_all_products() -> None:
    tape = {
        "BTC-USD": trades((1, 0), (2, 1_000_000), (3, 9_000_000)),
        "ETH-USD": trades((7, 500_000), (8, 5_000_000)),
    }
    seen = marks(
        [
            ("BTC-USD", 2, 1_900_000),
            ("ETH-USD", 7, 1_800_000),
            ("ETH-USD", 8, 5_000_100),
            ("BTC-USD", 3, 9_800_000),
        ]
    )
    assert pauses(tape, seen, 0, 10_000_000, over_us=700_000) == [
        Pause(at_us=0, trades=3, longest_us=1_900_000),
        Pause(at_us=9_000_000, trades=1, longest_us=800_000),
    ]
    assert pauses(tape, seen, 0, 10_000_000, over_us=2_000_000) == []
