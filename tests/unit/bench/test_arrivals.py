"""Each trade's latency is that of the first message which reflects it, however many trades that message tells of."""

import numpy as np

from fulltape.bench.arrivals import Trades, latencies_us, marks, unseen


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
