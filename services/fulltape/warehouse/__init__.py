"""The warehouse: what its tables are, how rows get there once each, and what is asked of them."""
