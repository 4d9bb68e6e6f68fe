"""Prints the names of the topics of a feed's Kafka as JSON: ``python3 list_topics.py FEED``; it runs in a pod."""

import json
import os
import sys
from pathlib import Path

from confluent_kafka.admin import AdminClient

from fulltape.feed.load import load_feed
from fulltape.kafka import client_configuration, kafka_settings

if __name__ == "__main__":
    settings = kafka_settings(load_feed(Path(sys.argv[1])), os.environ)
    sys.stdout.write(json.dumps(sorted(AdminClient(client_configuration(settings)).list_topics(timeout=15).topics)))
