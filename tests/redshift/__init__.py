"""A Redshift to test against: PostgreSQL behind a stand-in that speaks as Redshift does, and an S3 server.

What it can't prove is in `docs/warehouse.md`.
"""
