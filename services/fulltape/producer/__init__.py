"""The producer: Coinbase in, the tape out: every trade, in order, once.

The way of a trade through these files: `connections` reads frames, `intake` decodes and checks them, `gate` puts them
in order, `tail` adds what only the order tells, `writer` makes them durable in fenced transactions. `backfill` fetches
what the gate finds missing, `claims` says who writes a product and where its tape ends.
"""
