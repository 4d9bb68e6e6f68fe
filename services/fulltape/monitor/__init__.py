"""Turns panes into sliding windows, and windows into metrics and alerts."""
