"""The Spark applications: panes and archive. Not built yet."""
