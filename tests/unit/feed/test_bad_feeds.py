"""Every mistake in a feed file is said with its line, its field and the mend."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape.errors import FeedError
from fulltape.feed.load import load_feed, parse_feed
from fulltape.measures.names import MEASURES

GOOD = """\
apiVersion: fulltape.dev/v1alpha1
kind: CryptoFeed
metadata: {name: majors, namespace: markets}
spec:
  exchange: Coinbase
  products: [BTC-USD, ETH-USD]
  channels: [matches, ticker]
  suspend: false
  producer: {replicas: 1, connections: 2}
  kafka:
    strimziCluster: {name: feeds}
    topics: {partitions: 6, replicas: 3, retention: 168h}
  analytics: {windows: [1m, 5m], slide: 1s}
  alerts:
  - {name: FlashCrash, measure: drawdown, window: 5m, above: 0.05, severity: critical}
  - {name: WideSpread, measure: spread, window: 1m, above: 0.01, for: 2s}
"""


@dataclass(frozen=True)
class Bad:
    """`GOOD` with ``old`` replaced by ``new``, and what is said of it, each without the file's name."""

    name: str
    old: str
    new: str
    said: list[str]


BAD = [
    Bad(
        "wrong api version",
        "fulltape.dev/v1alpha1",
        "fulltape.dev/v1",
        ["1: apiVersion: 'fulltape.dev/v1' is not allowed; write fulltape.dev/v1alpha1"],
    ),
    Bad(
        "wrong kind", "kind: CryptoFeed", "kind: KafkaTopic", ["2: kind: 'KafkaTopic' is not allowed; write CryptoFeed"]
    ),
    Bad("no kind", "kind: CryptoFeed\n", "", ["1: kind: is missing: Always CryptoFeed."]),
    Bad(
        "name in capitals",
        "name: majors",
        "name: Majors",
        [
            (
                "3: metadata.name: 'Majors' can't name a feed; write lower-case letters, digits and "
                "'-', beginning and ending with a letter or digit, such as majors"
            )
        ],
    ),
    Bad(
        "name too long",
        "name: majors",
        f"name: {'a' * 41}",
        [("3: metadata.name: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' has 41 characters; at most 40 are allowed")],
    ),
    Bad(
        "name that YAML reads as a number",
        "name: majors",
        "name: 2024",
        [("3: metadata.name: 2024 is a number; write text, in quotes where YAML reads it as something else")],
    ),
    Bad(
        "name that YAML reads as true",
        "name: majors",
        "name: on",
        [("3: metadata.name: true is a truth value; write text, in quotes where YAML reads it as something else")],
    ),
    Bad(
        "namespace with a dot",
        "namespace: markets",
        "namespace: mar.kets",
        [
            (
                "3: metadata.namespace: 'mar.kets' is not a Kubernetes name; write lower-case letters, "
                "digits and '-', beginning and ending with a letter or digit"
            )
        ],
    ),
    Bad(
        "label that is a number",
        "namespace: markets",
        "labels: {tier: 1}",
        [("3: metadata.labels.tier: 1 is a number; write text, in quotes where YAML reads it as something else")],
    ),
    Bad("unknown field at the top", "spec:", "specs: {}\nspec:", ["4: specs: is not a field; did you mean spec?"]),
    Bad(
        "misspelt field",
        "exchange: Coinbase",
        "exchnage: Coinbase",
        ["5: spec.exchnage: is not a field; did you mean exchange?"],
    ),
    Bad(
        "field in snake case",
        "strimziCluster:",
        "strimzi_cluster:",
        ["11: spec.kafka.strimzi_cluster: is not a field; did you mean strimziCluster?"],
    ),
    Bad(
        "field at the wrong level",
        "exchange: Coinbase",
        "partitions: 6",
        ["5: spec.partitions: is not a field here; it belongs at spec.kafka.topics.partitions"],
    ),
    Bad(
        "field that resembles nothing",
        "exchange: Coinbase",
        "zebra: 6",
        [
            (
                "5: spec.zebra: is not a field; the fields here are exchange, endpoints, products, "
                "channels, suspend, retain, producer, kafka, analytics, dashboard, warehouse, alerts, alertmanagers"
            )
        ],
    ),
    Bad(
        "unknown exchange",
        "exchange: Coinbase",
        "exchange: Binance",
        ["5: spec.exchange: 'Binance' is not allowed; write Coinbase"],
    ),
    Bad(
        "exchange in lower case",
        "exchange: Coinbase",
        "exchange: coinbase",
        ["5: spec.exchange: 'coinbase' is not allowed; write Coinbase"],
    ),
    Bad(
        "websocket address over http",
        "exchange: Coinbase",
        'endpoints: {websocket: "http://localhost:1"}',
        [
            (
                "5: spec.endpoints.websocket: 'http://localhost:1' is not a WebSocket address; write "
                "wss://host or ws://host:port"
            )
        ],
    ),
    Bad(
        "rest address without scheme",
        "exchange: Coinbase",
        'endpoints: {rest: "localhost"}',
        [("5: spec.endpoints.rest: 'localhost' is not a web address; write https://host or http://host:port")],
    ),
    Bad(
        "no products",
        "  products: [BTC-USD, ETH-USD]\n",
        "",
        [("4: spec.products: is missing: The products to record, as BASE-QUOTE, such as BTC-USD; each once.")],
    ),
    Bad("empty products", "[BTC-USD, ETH-USD]", "[]", ["6: spec.products: has 0 entries; write 1 or more"]),
    Bad(
        "product in lower case",
        "[BTC-USD, ETH-USD]",
        "[BTC-USD, eth-usd]",
        [("6: spec.products[1]: 'eth-usd' is not a product; write BASE-QUOTE in capitals, such as BTC-USD")],
    ),
    Bad(
        "product of another exchange's spelling",
        "[BTC-USD, ETH-USD]",
        "[BTCUSDT]",
        [("6: spec.products[0]: 'BTCUSDT' is not a product; write BASE-QUOTE in capitals, such as BTC-USD")],
    ),
    Bad(
        "product twice",
        "[BTC-USD, ETH-USD]",
        "[BTC-USD, ETH-USD, BTC-USD]",
        ["6: spec.products[2]: BTC-USD is already item 0 of the list; remove one"],
    ),
    Bad(
        "products as text",
        "[BTC-USD, ETH-USD]",
        "BTC-USD",
        ["6: spec.products: 'BTC-USD' is text; write a list, as in [a, b]"],
    ),
    Bad(
        "product that is a number",
        "[BTC-USD, ETH-USD]",
        "[BTC-USD, 5]",
        [("6: spec.products[1]: 5 is a number; write text, in quotes where YAML reads it as something else")],
    ),
    Bad(
        "too many products",
        "[BTC-USD, ETH-USD]",
        f"[{', '.join(f'A{number}-USD' for number in range(201))}]",
        ["6: spec.products: has more than 200 entries; write 200 or less"],
    ),
    Bad(
        "unknown channel",
        "[matches, ticker]",
        "[matches, level2]",
        ["7: spec.channels[1]: 'level2' is not allowed; write matches or ticker"],
    ),
    Bad(
        "misspelt channel",
        "[matches, ticker]",
        "[match, ticker]",
        ["7: spec.channels[0]: 'match' is not allowed; write matches"],
    ),
    Bad(
        "no matches",
        "[matches, ticker]",
        "[ticker]",
        ["7: spec.channels: matches is missing, and the tape is made of it; add it"],
    ),
    Bad(
        "channel twice",
        "[matches, ticker]",
        "[matches, ticker, matches]",
        ["7: spec.channels: has more than 2 entries; write 2 or less"],
    ),
    Bad(
        "suspend as text",
        "suspend: false",
        'suspend: "no"',
        ["8: spec.suspend: 'no' is text; write true or false, without quotes"],
    ),
    Bad(
        "unknown retain",
        "suspend: false",
        "retain: Keep",
        ["8: spec.retain: 'Keep' is not allowed; write Delete or Retain"],
    ),
    Bad(
        "no producer replicas",
        "replicas: 1, connections: 2",
        "replicas: 0",
        ["9: spec.producer.replicas: 0 is too small; write 1 or more"],
    ),
    Bad(
        "replicas as text",
        "replicas: 1, connections: 2",
        'replicas: "1"',
        ["9: spec.producer.replicas: '1' is text; write a whole number, without quotes"],
    ),
    Bad(
        "replicas with a fraction",
        "replicas: 1, connections: 2",
        "replicas: 1.5",
        ["9: spec.producer.replicas: 1.5 is a number; write a whole number, without quotes"],
    ),
    Bad(
        "replicas true",
        "replicas: 1, connections: 2",
        "replicas: true",
        ["9: spec.producer.replicas: true is a truth value; write a whole number, without quotes"],
    ),
    Bad(
        "more producers than products",
        "replicas: 1, connections: 2",
        "replicas: 3",
        ["9: spec.producer.replicas: 3 producers can't share 2 product(s); write 2 or less"],
    ),
    Bad(
        "five connections",
        "replicas: 1, connections: 2",
        "connections: 5",
        ["9: spec.producer.connections: 5 is too large; write 4 or less"],
    ),
    Bad(
        "start as a word",
        "replicas: 1, connections: 2",
        "start: latest",
        ["9: spec.producer.start: 'latest' is text; write a mapping, as in {name: value}"],
    ),
    Bad(
        "start since without unit",
        "replicas: 1, connections: 2",
        "start: {since: 15}",
        [
            (
                "9: spec.producer.start.since: '15' is not a duration; write a whole number and ms, s, "
                "m, h or d, such as 10s"
            )
        ],
    ),
    Bad(
        "start since too long ago",
        "replicas: 1, connections: 2",
        "start: {since: 31d}",
        ["9: spec.producer.start.since: 31d is out of bounds; write 1s to 30d"],
    ),
    Bad(
        "start both ways",
        "replicas: 1, connections: 2",
        "start: {since: 1h, tradeIds: {BTC-USD: 1}}",
        ["9: spec.producer.start.tradeIds: since and tradeIds exclude each other; keep one"],
    ),
    Bad(
        "start of a product that is not read",
        "replicas: 1, connections: 2",
        "start: {tradeIds: {SOL-USD: 1}}",
        [("9: spec.producer.start.tradeIds.SOL-USD: is not one of spec.products; add it there or remove it here")],
    ),
    Bad(
        "start of no product",
        "replicas: 1, connections: 2",
        "start: {tradeIds: {btc: 1}}",
        [
            (
                "9: spec.producer.start.tradeIds.btc: 'btc' is not a product; write BASE-QUOTE in "
                "capitals, such as BTC-USD"
            )
        ],
    ),
    Bad(
        "start at trade 0",
        "replicas: 1, connections: 2",
        "start: {tradeIds: {BTC-USD: 0}}",
        ["9: spec.producer.start.tradeIds.BTC-USD: 0 is too small; write 1 or more"],
    ),
    Bad(
        "no Kafka",
        "    strimziCluster: {name: feeds}\n",
        "",
        [("10: spec.kafka: no Kafka is named; add strimziCluster: {name: ...} or bootstrapServers: host:port")],
    ),
    Bad(
        "two Kafkas",
        "strimziCluster: {name: feeds}",
        "strimziCluster: {name: feeds}\n    bootstrapServers: b-1:9092",
        [("12: spec.kafka.bootstrapServers: strimziCluster and bootstrapServers exclude each other; keep one")],
    ),
    Bad(
        "brokers without port",
        "strimziCluster: {name: feeds}",
        "bootstrapServers: b-1",
        [
            (
                "11: spec.kafka.bootstrapServers: 'b-1' is not a list of brokers; write host:port, "
                "with commas between several and no spaces"
            )
        ],
    ),
    Bad(
        "brokers with spaces",
        "strimziCluster: {name: feeds}",
        'bootstrapServers: "b-1:9092, b-2:9092"',
        [
            (
                "11: spec.kafka.bootstrapServers: 'b-1:9092, b-2:9092' is not a list of brokers; write "
                "host:port, with commas between several and no spaces"
            )
        ],
    ),
    Bad(
        "Strimzi topics elsewhere",
        "strimziCluster: {name: feeds}",
        "bootstrapServers: b-1:9092\n    topicManagement: Strimzi",
        [
            (
                "12: spec.kafka.topicManagement: Strimzi manages topics of a strimziCluster only; "
                "write Admin or leave it out"
            )
        ],
    ),
    Bad(
        "Strimzi cluster without name",
        "strimziCluster: {name: feeds}",
        "strimziCluster: {}",
        ["11: spec.kafka.strimziCluster.name: is missing: Name of the Kafka resource."],
    ),
    Bad(
        "password without Secret",
        "strimziCluster: {name: feeds}",
        "bootstrapServers: b-1:9092\n    authentication: {type: scram-sha-512}",
        [
            (
                "12: spec.kafka.authentication: scram-sha-512 with bootstrapServers needs the Secret "
                "with the credentials; add secretRef: {name: ...}"
            )
        ],
    ),
    Bad(
        "Secret without authentication",
        "strimziCluster: {name: feeds}",
        "strimziCluster: {name: feeds}\n    authentication: {secretRef: {name: a}}",
        [
            (
                "12: spec.kafka.authentication.secretRef: type is none, which reads no Secret; set "
                "type or remove secretRef"
            )
        ],
    ),
    Bad(
        "unknown authentication",
        "strimziCluster: {name: feeds}",
        "strimziCluster: {name: feeds}\n    authentication: {type: SCRAM-SHA-256}",
        ["12: spec.kafka.authentication.type: 'SCRAM-SHA-256' is not allowed; write scram-sha-512"],
    ),
    Bad(
        "no partitions",
        "partitions: 6",
        "partitions: 0",
        ["12: spec.kafka.topics.partitions: 0 is too small; write 1 or more"],
    ),
    Bad(
        "retention too short",
        "retention: 168h",
        "retention: 59s",
        ["12: spec.kafka.topics.retention: 59s is out of bounds; write 1m to 3650d"],
    ),
    Bad(
        "retention in words",
        "retention: 168h",
        "retention: a week",
        [
            (
                "12: spec.kafka.topics.retention: 'a week' is not a duration; write a whole number and "
                "ms, s, m, h or d, such as 10s"
            )
        ],
    ),
    Bad(
        "prefix with an underscore",
        "partitions: 6",
        "prefix: my_feed",
        [
            (
                "12: spec.kafka.topics.prefix: 'my_feed' can't begin a topic's name; write lower-case "
                "letters, digits, '-' and '.', with a letter or digit at both ends and on both sides of each '.'"
            )
        ],
    ),
    Bad(
        "kafka left empty",
        ("  kafka:\n    strimziCluster: {name: feeds}\n    topics: {partitions: 6, replicas: 3, retention: 168h}\n"),
        "  kafka:\n",
        ["10: spec.kafka: is empty; write a value ({} takes all defaults) or remove the line"],
    ),
    Bad(
        "no windows", "windows: [1m, 5m]", "windows: []", ["13: spec.analytics.windows: has 0 entries; write 1 or more"]
    ),
    Bad(
        "the same window twice",
        "windows: [1m, 5m]",
        "windows: [1m, 5m, 60s]",
        ["13: spec.analytics.windows[2]: 60s is already item 0 of the list; remove one"],
    ),
    Bad(
        "window that does not slide",
        "slide: 1s",
        "slide: 7s",
        [
            "13: spec.analytics.windows[0]: 1m is not a multiple of slide (7s); change one of the two",
            "13: spec.analytics.windows[1]: 5m is not a multiple of slide (7s); change one of the two",
        ],
    ),
    Bad(
        "slide of half a second",
        "slide: 1s",
        "slide: 1500ms",
        ["13: spec.analytics.slide: 1500ms is not whole seconds; write 1s, 2s, ..."],
    ),
    Bad(
        "window too long",
        "windows: [1m, 5m]",
        "windows: [1m, 5m, 2h]",
        ["13: spec.analytics.windows[2]: 2h is out of bounds; write 1s to 1h"],
    ),
    Bad(
        "checkpoint in two places",
        "slide: 1s",
        'checkpoint: {volume: {}, uri: "s3a://bucket/x"}',
        ["13: spec.analytics.checkpoint.uri: volume and uri exclude each other; keep one"],
    ),
    Bad(
        "checkpoint on s3",
        "slide: 1s",
        'checkpoint: {uri: "s3://bucket/x"}',
        [
            (
                "13: spec.analytics.checkpoint.uri: 's3://bucket/x' is not a place for checkpoints; "
                "write s3a://bucket/prefix"
            )
        ],
    ),
    Bad(
        "volume without unit",
        "slide: 1s",
        'checkpoint: {volume: {size: "5"}}',
        [
            (
                "13: spec.analytics.checkpoint.volume.size: '5' is not a size; write a whole number "
                "and Mi, Gi or Ti, such as 5Gi"
            )
        ],
    ),
    Bad(
        "Redshift without staging",
        "  alerts:",
        "  warehouse: {redshift: {secretRef: {name: r}}}\n  alerts:",
        [("14: spec.warehouse.redshift: Redshift loads from S3; add staging: {uri: s3://bucket/prefix, iamRole: arn}")],
    ),
    Bad(
        "staging without Redshift",
        "  alerts:",
        ('  warehouse: {staging: {uri: "s3://bucket", iamRole: "arn:aws:iam::123456789012:role/r"}}\n  alerts:'),
        ["14: spec.warehouse.staging: only Redshift uses staging; add redshift or remove staging"],
    ),
    Bad(
        "staging over https",
        "  alerts:",
        ('  warehouse: {redshift: {secretRef: {name: r}}, staging: {uri: "https://bucket", iamRole: role}}\n  alerts:'),
        [
            ("14: spec.warehouse.staging.iamRole: 'role' is not a role's ARN; write arn:aws:iam::ACCOUNT:role/NAME"),
            ("14: spec.warehouse.staging.uri: 'https://bucket' is not a place on S3; write s3://bucket/prefix"),
        ],
    ),
    Bad(
        "alert in lower case",
        "name: FlashCrash",
        "name: flash-crash",
        [
            (
                "15: spec.alerts[0].name: 'flash-crash' can't name an alert; write letters and digits "
                "in CamelCase, as in FlashCrash"
            )
        ],
    ),
    Bad(
        "alert without measure or pattern",
        "measure: drawdown, ",
        "",
        ["15: spec.alerts[0]: the rule watches nothing; add measure, with above or below, or pattern"],
    ),
    Bad(
        "alert with measure and pattern",
        "above: 0.05, ",
        "pattern: flashCrash, ",
        ["15: spec.alerts[0].pattern: measure and pattern exclude each other; keep one, or write two rules"],
    ),
    Bad(
        "misspelt pattern",
        "measure: drawdown, window: 5m, above: 0.05",
        "pattern: flashcrsh, window: 5m",
        ["15: spec.alerts[0].pattern: 'flashcrsh' is not allowed; write flashCrash"],
    ),
    Bad(
        "unknown pattern",
        "measure: drawdown, window: 5m, above: 0.05",
        "pattern: headAndShoulders, window: 5m",
        [
            (
                "15: spec.alerts[0].pattern: 'headAndShoulders' is not allowed; write flashCrash, vRecovery, "
                "tradeBurst, washTrading or liquidityGap"
            )
        ],
    ),
    Bad(
        "pattern with the threshold of a measure",
        "measure: drawdown, window: 5m",
        "pattern: flashCrash, window: 5m",
        ["15: spec.alerts[0].above: belongs to a rule with measure; flashCrash has thresholds: miniCrash, drawdown"],
    ),
    Bad(
        "pattern with hysteresis",
        "measure: drawdown, window: 5m, above: 0.05",
        "pattern: tradeBurst, window: 5m, hysteresis: 1",
        [
            (
                "15: spec.alerts[0].hysteresis: belongs to a rule with measure; tradeBurst has thresholds: "
                "tradeRateZScore, trades"
            )
        ],
    ),
    Bad(
        "threshold of another pattern",
        "measure: drawdown, window: 5m, above: 0.05",
        "pattern: liquidityGap, window: 5m, thresholds: {recovery: 0.5}",
        ["15: spec.alerts[0].thresholds.recovery: is not a threshold of liquidityGap; it has largestReturn"],
    ),
    Bad(
        "threshold of a pattern in per cent",
        "measure: drawdown, window: 5m, above: 0.05",
        "pattern: flashCrash, window: 5m, thresholds: {drawdown: 5}",
        [
            (
                "15: spec.alerts[0].thresholds.drawdown: never fires; drawdown is at most 1 (largest fall from a peak, "
                "as a fraction of the peak; 0.05 is 5 %)"
            )
        ],
    ),
    Bad(
        "threshold of a pattern below the least",
        "measure: drawdown, window: 5m, above: 0.05",
        "pattern: washTrading, window: 5m, thresholds: {roundSizeShare: 0}",
        [
            (
                "15: spec.alerts[0].thresholds.roundSizeShare: never fires; roundSizeShare is at least 0 (share of the "
                "trades whose size has one significant digit)"
            )
        ],
    ),
    Bad(
        "thresholds of a measure",
        "above: 0.05",
        "thresholds: {drawdown: 0.05}",
        ["15: spec.alerts[0].thresholds: belongs to a rule with pattern; write above or below"],
    ),
    Bad(
        "unknown measure",
        "measure: spread,",
        "measure: spreads,",
        [f"16: spec.alerts[1].measure: 'spreads' is not a measure; write one of {', '.join(MEASURES)}"],
    ),
    Bad(
        "alert on a product that is not read",
        "above: 0.05",
        "above: 0.05, products: [ETH-USD, SOL-USD]",
        ["15: spec.alerts[0].products[1]: SOL-USD is not one of spec.products; add it there or remove it here"],
    ),
    Bad(
        "alert on no product",
        "above: 0.05",
        "above: 0.05, products: []",
        ["15: spec.alerts[0].products: has 0 entries; write 1 or more"],
    ),
    Bad(
        "name of a built-in alert",
        "name: FlashCrash",
        "name: FeedStale",
        ["15: spec.alerts[0].name: 'FeedStale' is built in; choose another name"],
    ),
    Bad(
        "label that the monitor sets",
        "above: 0.05",
        "above: 0.05, labels: {team: risk, severity: page}",
        [
            (
                "15: spec.alerts[0].labels.severity: is set by the monitor, as are alertname, feed, namespace, "
                "product, window, severity; choose another name"
            )
        ],
    ),
    Bad(
        "label that Alertmanager would refuse",
        "above: 0.05",
        "above: 0.05, labels: {on-call: risk}",
        [
            (
                "15: spec.alerts[0].labels.on-call: 'on-call' is not a name that Alertmanager takes; write letters, "
                "digits and '_', not beginning with a digit"
            )
        ],
    ),
    Bad(
        "label of many words",
        "above: 0.05",
        f"above: 0.05, labels: {{team: {'a' * 257}}}",
        [f"15: spec.alerts[0].labels.team: '{'a' * 56}... has 257 characters; at most 256 are allowed"],
    ),
    Bad(
        "too many annotations",
        "above: 0.05",
        f"above: 0.05, annotations: {{{', '.join(f'a{number}: b' for number in range(21))}}}",
        ["15: spec.alerts[0].annotations: has more than 20 entries; write 20 or less"],
    ),
    Bad(
        "Alertmanager without scheme",
        "  alerts:",
        '  alertmanagers: ["alertmanager:9093"]\n  alerts:',
        ["14: spec.alertmanagers[0]: 'alertmanager:9093' is not a web address; write https://host or http://host:port"],
    ),
    Bad(
        "Alertmanager twice",
        "  alerts:",
        '  alertmanagers: ["http://a:9093", "http://a:9093"]\n  alerts:',
        ["14: spec.alertmanagers[1]: http://a:9093 is already item 0 of the list; remove one"],
    ),
    Bad(
        "unknown window of a rule",
        "window: 5m",
        "window: 15m",
        [
            (
                "15: spec.alerts[0].window: 15m is not one of spec.analytics.windows (1m, 5m); add it "
                "there or write one of them"
            )
        ],
    ),
    Bad(
        "alert without threshold",
        "above: 0.05, ",
        "",
        ["15: spec.alerts[0]: the rule has no threshold; add above or below"],
    ),
    Bad(
        "alert with two thresholds",
        "above: 0.05",
        "above: 0.05, below: 0.01",
        ["15: spec.alerts[0].below: above and below exclude each other; keep one, or write two rules"],
    ),
    Bad(
        "threshold in per cent",
        "above: 0.05",
        "above: 5",
        [
            (
                "15: spec.alerts[0].above: never fires; drawdown is at most 1 (largest fall from a "
                "peak, as a fraction of the peak; 0.05 is 5 %)"
            )
        ],
    ),
    Bad(
        "threshold below the least",
        "measure: drawdown, window: 5m, above: 0.05",
        "measure: drawdown, window: 5m, below: 0",
        [
            (
                "15: spec.alerts[0].below: never fires; drawdown is at least 0 (largest fall from a "
                "peak, as a fraction of the peak; 0.05 is 5 %)"
            )
        ],
    ),
    Bad(
        "threshold as text",
        "above: 0.05",
        'above: "5 %"',
        ["15: spec.alerts[0].above: '5 %' is text; write a number, without quotes"],
    ),
    Bad(
        "threshold without end",
        "above: 0.05",
        "above: .inf",
        ["15: spec.alerts[0].above: is not a finite number; write one"],
    ),
    Bad(
        "unknown severity",
        "severity: critical",
        "severity: page",
        ["15: spec.alerts[0].severity: 'page' is not allowed; write info, warning or critical"],
    ),
    Bad(
        "alert twice",
        "  alerts:",
        "  alerts:\n  - {name: FlashCrash, measure: runUp, window: 1m, above: 0.1}",
        [("16: spec.alerts[1].name: 'FlashCrash' already names item 0 of the list; rename or remove one")],
    ),
    Bad(
        "alerts without analytics",
        "  analytics: {windows: [1m, 5m], slide: 1s}\n",
        "",
        ["13: spec.alerts: alerts watch windows, and there is no analytics; add analytics: {}"],
    ),
    Bad(
        "spread without ticker",
        "channels: [matches, ticker]",
        "channels: [matches]",
        [
            (
                "16: spec.alerts[1].measure: spread is computed from the ticker, which is not "
                "recorded; add ticker to spec.channels"
            )
        ],
    ),
    Bad(
        "a key twice",
        "suspend: false",
        "suspend: false\n  suspend: true",
        ["9: spec.suspend: stands here and on line 8; keep one"],
    ),
    Bad(
        "an alias",
        "suspend: false",
        "suspend: &x false\n  retain: *x",
        ["9: spec.retain: repeats another value by an alias (*name); write the value out"],
    ),
    Bad(
        "a tag",
        "suspend: false",
        "suspend: !!binary abcd",
        ["8: spec.suspend: has the tag tag:yaml.org,2002:binary; write the value without a tag"],
    ),
    Bad(
        "a Python object",
        "suspend: false",
        "suspend: !!python/object/apply:os.system [ls]",
        [
            (
                "8: spec.suspend: has the tag tag:yaml.org,2002:python/object/apply:os.system; write "
                "the value without a tag"
            )
        ],
    ),
    Bad(
        "a key that is a list",
        "suspend: false",
        "[a, b]: false",
        ["4: spec: has a key that is not text; write the name of a field"],
    ),
    Bad(
        "alerts as a mapping",
        "  alerts:\n",
        "  alerts:\n  - 5\n",
        ["15: spec.alerts[0]: 5 is a number; write a mapping, as in {name: value}"],
    ),
]


def said_of(text: str | bytes) -> list[str]:
    """Return the mistakes in a feed."""
    with pytest.raises(FeedError) as caught:
        parse_feed(text if isinstance(text, bytes) else text.encode(), "majors.yaml")
    return str(caught.value).split("\n")


def mistakes_in(text: str) -> list[str]:
    """Return the mistakes in what may be a feed; none if it is one."""
    try:
        parse_feed(text.encode(), "f")
    except FeedError as error:
        return str(error).split("\n")
    return []


def test_the_feed_that_the_table_varies_is_good() -> None:
    assert parse_feed(GOOD.encode(), "majors.yaml").metadata.name == "majors"


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_feed_is_refused_with_line_field_and_mend(bad: Bad) -> None:
    assert bad.old in GOOD
    assert said_of(GOOD.replace(bad.old, bad.new, 1)) == [f"majors.yaml:{text}" for text in bad.said]


def test_all_mistakes_are_said_at_once_in_the_order_of_their_lines() -> None:
    text = GOOD.replace("Coinbase", "Binance").replace("ETH-USD", "eth").replace("partitions: 6", "partitions: 0")
    assert [line.split(": ")[0] for line in said_of(text)] == ["majors.yaml:5", "majors.yaml:6", "majors.yaml:12"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "majors.yaml:1: is empty; a feed begins with apiVersion: fulltape.dev/v1alpha1"),
        ("# nothing\n---\n", "majors.yaml:1: is empty; a feed begins with apiVersion: fulltape.dev/v1alpha1"),
        ("just text", "majors.yaml:1: is not a CryptoFeed; a feed begins with apiVersion: fulltape.dev/v1alpha1"),
        (GOOD + "---\na: 1\n", "majors.yaml:18: holds 2 documents; write each CryptoFeed to a file of its own"),
        ("a: [1\nb: 2\n", "majors.yaml:2: is not YAML: expected ',' or ']', but got ':'"),
        ("[" * 50, "majors.yaml:1: is nested deeper than 30 levels; no field of a feed is"),
        (
            "#" * 1_000_001,
            "majors.yaml: is larger than 1,000,000 bytes; a feed is a small file, is this another one?",
        ),
    ],
    ids=["nothing", "comments", "text", "two documents", "not YAML", "deep", "large"],
)
def test_a_file_that_is_no_feed_is_refused_in_one_line(text: str, said: str) -> None:
    assert said_of(text) == [said]


def test_bytes_that_are_no_text_are_refused() -> None:
    (line,) = said_of(b"name: \xff\xfe")
    assert line.startswith("majors.yaml:1: is not YAML: ")


@pytest.mark.parametrize("value", ["!!bool maybe", "!!int ''", "!!float x", "2024-13-45", "1e400", "9" * 5000, "1:30"])
def test_a_value_that_yaml_itself_stumbles_over_is_refused_in_its_line(value: str) -> None:
    (line,) = said_of(GOOD.replace("partitions: 6", f"partitions: {value}", 1))
    assert line.startswith("majors.yaml:12: spec.kafka.topics.partitions: ")
    assert len(line) < 200


def test_a_file_that_can_not_be_read_is_refused_with_its_path(tmp_path: Path) -> None:
    absent = tmp_path / "absent.yaml"
    with pytest.raises(FeedError) as caught:
        load_feed(absent)
    assert str(caught.value) == (
        f"{absent}: can't be read: No such file or directory; give the path of a CryptoFeed file"
    )


def test_a_document_end_with_nothing_after_it_is_no_second_document() -> None:
    assert parse_feed(f"---\n{GOOD}---\n".encode(), "f").metadata.name == "majors"


@settings(deadline=None)
@given(
    start=st.integers(0, len(GOOD)),
    length=st.integers(0, 40),
    inserted=st.text(alphabet="abZ09-_:{}[],&*!|>'\"#%@\n\t .~?", max_size=12),
)
def test_whatever_is_typed_into_a_feed_it_loads_or_is_refused_clearly(start: int, length: int, inserted: str) -> None:
    text = GOOD[:start] + inserted + GOOD[start + length :]
    assert all(line.startswith("f:") for line in mistakes_in(text))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_feed_or_refused(raw: bytes) -> None:
    with pytest.raises(FeedError):
        parse_feed(raw, "f")
