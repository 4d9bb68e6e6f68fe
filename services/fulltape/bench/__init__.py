"""Benchmarks: `fulltape bench NAME` measures Fulltape and a peer in one run and prints figures, never a verdict."""
