"""The Coinbase Exchange protocol: its messages, the WebSocket feed and the REST API. Knows nothing of Kafka."""
