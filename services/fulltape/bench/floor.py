"""The floor under every latency here: what Kafka alone takes from a producer to a consumer, at a given rate."""

import threading
import time
from uuid import uuid4

from confluent_kafka import Consumer, Producer, TopicPartition

from fulltape.bench.report import Latency, latency
from fulltape.kafka import ClientConfiguration, TopicSpec, ensure_topics

_TICK_SECONDS = 0.001
_PAYLOAD = b"x" * 400  # as long as a trade
_WARM_UP_SECONDS = 20.0  # of the broker


def kafka_floor(bootstrap_servers: str, rate: int, seconds: float, partitions: int) -> Latency:
    """Produce ``rate`` messages a second without transactions; tell how long each took to a consumer."""
    topic = f"bench-{uuid4().hex[:8]}.floor"
    kafka = ClientConfiguration({"bootstrap.servers": bootstrap_servers})
    ensure_topics(kafka, [TopicSpec(topic, partitions, 1, {"cleanup.policy": "delete"})])
    consumer = Consumer({**kafka, "group.id": topic, "auto.offset.reset": "earliest", "fetch.queue.backoff.ms": 1})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    samples: list[tuple[int, int]] = []  # when it was sent, and how long it took
    stop = threading.Event()

    def consume() -> None:
        while not stop.is_set():
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                sent_us = int((message.value() or b"")[:16])
                samples.append((sent_us, time.time_ns() // 1000 - sent_us))

    thread = threading.Thread(target=consume, daemon=True)
    thread.start()
    producer = Producer({**kafka, "linger.ms": 0, "socket.nagle.disable": True})
    from_us = time.time_ns() // 1000 + int(_WARM_UP_SECONDS * 1e6)
    began, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < _WARM_UP_SECONDS + seconds:
        for number in range(sent, int(elapsed * rate)):
            stamp = b"%016d" % (time.time_ns() // 1000)
            producer.produce(topic, stamp + _PAYLOAD, partition=number % partitions)
        sent = max(sent, int(elapsed * rate))
        producer.poll(0)
        time.sleep(_TICK_SECONDS)
    producer.flush()
    stop.set()
    thread.join()
    consumer.close()
    return latency([taken_us for sent_us, taken_us in samples if sent_us >= from_us])
