"""The feed: its model, its files and its documentation."""
