"""How one machine runs what a cluster otherwise would: an embedded Kafka, its jars and the Java beneath."""
