"""The CryptoFeed: its model, its files and its documentation."""
