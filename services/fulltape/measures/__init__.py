"""The mathematics: what a second of trades sums up to, how seconds merge, and every measure of a window."""
