"""What a cluster has already, as parts of a run: a Kafka broker and an Alertmanager."""

from fulltape.feed.model import CryptoFeed
from fulltape.kafka import BOOTSTRAP_VARIABLE, prepare_kafka
from fulltape.local.alertmanager import EmbeddedAlertmanager
from fulltape.local.kafka import EmbeddedKafka
from fulltape.local.parts import last_words


class BrokerBody:
    """An embedded broker that holds ``feed``; it has started when the feed's topics are there."""

    def __init__(self, broker: EmbeddedKafka, feed: CryptoFeed) -> None:
        self._broker = broker
        self._feed = feed
        self._started = False

    def start(self) -> None:
        """Start the broker, or start it again on the same data and port, and make the feed's topics.

        Raises:
            ConfigurationError: as `EmbeddedKafka.start`; or a topic is not as the feed wants it.
            KafkaUnavailableError: it ended or did not answer in time.

        """
        if self._started:
            self._broker.restart()
        else:
            self._broker.start()
            self._started = True
        prepare_kafka(self._feed, {BOOTSTRAP_VARIABLE: self._broker.bootstrap_servers})

    def ended(self) -> str | None:
        """Return its last words; None while it runs."""
        return None if self._broker.pid is not None else f"ended: {last_words(self._broker.log_path)}"

    def stop(self) -> None:
        """Stop it in order, and delete its data where they are not to be kept."""
        self._broker.stop()

    def kill(self) -> None:
        """End it as a crash would."""
        self._broker.kill()


class AlertmanagerBody:
    """An embedded Alertmanager."""

    def __init__(self, alertmanager: EmbeddedAlertmanager) -> None:
        self._alertmanager = alertmanager

    def start(self) -> None:
        """Start it, with its memory where it had been killed.

        Raises:
            ConfigurationError: its port is in use, or it did not become ready.

        """
        self._alertmanager.start()

    def ended(self) -> str | None:
        """Return its last words; None while it runs."""
        if self._alertmanager.pid is not None:
            return None
        return f"ended: {last_words(self._alertmanager.data / 'alertmanager.log')}"

    def stop(self) -> None:
        """Stop it and delete its folder."""
        self._alertmanager.stop()

    def kill(self) -> None:
        """End it as a crash would."""
        self._alertmanager.kill()
