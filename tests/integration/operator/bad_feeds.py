"""Feeds that the API server must refuse, and changes of a feed: what is said of each, with the field and the mend."""

from dataclasses import dataclass

GOOD = """\
apiVersion: fulltape.dev/v1alpha1
kind: CryptoFeed
metadata: {name: majors}
spec:
  exchange: Coinbase
  endpoints: {rest: "http://sandbox:8080"}
  products: [BTC-USD, ETH-USD]
  channels: [matches, ticker]
  suspend: false
  producer: {replicas: 1, connections: 2, start: {since: 1h}}
  kafka:
    strimziCluster: {name: feeds, namespace: kafka}
    topics: {partitions: 6, replicas: 3, retention: 168h}
    authentication: {type: scram-sha-512}
  analytics: {windows: [1m, 5m], slide: 1s, watermark: 10m, checkpoint: {volume: {size: 5Gi}}}
  warehouse:
    redshift: {secretRef: {name: redshift}}
    staging: {uri: "s3://bucket/staging", iamRole: "arn:aws:iam::123456789012:role/load"}
    every: 10s
  alerts:
  - {name: FlashCrash, measure: drawdown, window: 5m, above: 0.05, labels: {team: risk}}
  - {name: TradeBurst, pattern: tradeBurst, window: 60s, thresholds: {trades: 50}, products: [BTC-USD]}
  - {name: WideSpread, measure: spread, window: 1m, above: 0.01, for: 2s}
  alertmanagers: ["http://alertmanager:9093"]
"""

STRIMZI = "strimziCluster: {name: feeds, namespace: kafka}"
ELSEWHERE = 'bootstrapServers: "b-1:9096"'
DRAWDOWN = "measure: drawdown, window: 5m, above: 0.05"
BURST = "pattern: tradeBurst, window: 60s, thresholds: {trades: 50}"


@dataclass(frozen=True)
class Bad:
    """`GOOD` with ``old`` replaced by ``new``; the refusal names ``field`` and holds ``said``."""

    name: str
    old: str
    new: str
    field: str
    said: str

    @property
    def text(self) -> str:
        """The feed."""
        assert self.old in GOOD
        return GOOD.replace(self.old, self.new, 1)


BAD = [
    # The object.
    Bad("of no version", "fulltape.dev/v1alpha1", "fulltape.dev/v2", "fulltape.dev/v2", "no matches for kind"),
    Bad("named too long", "name: majors", f"name: {'a' * 41}", "metadata.name", "at most 40 characters"),
    Bad(
        "named with a dot", "name: majors", "name: maj.ors", "metadata.name", "write lower-case letters, digits and '-'"
    ),
    Bad("without spec", GOOD[GOOD.index("spec:") :], "", "spec", "Required value"),
    # Fields that are none.
    Bad("with an unknown field", "suspend:", "suspended:", 'unknown field "spec.suspended"', "strict decoding error"),
    Bad("in snake case", "strimziCluster:", "strimzi_cluster:", "spec.kafka.strimzi_cluster", "unknown field"),
    Bad("with a field at the wrong level", "suspend: false", "partitions: 6", "spec.partitions", "unknown field"),
    Bad("with an unknown field of a rule", "for: 2s", "For: 2s", "spec.alerts[2].For", "unknown field"),
    # Types.
    Bad("with a number as text", "partitions: 6", 'partitions: "6"', "partitions", "must be of type integer"),
    Bad("with a fraction of a partition", "partitions: 6", "partitions: 6.5", "partitions", "must be of type integer"),
    Bad("with products as text", "[BTC-USD, ETH-USD]", "BTC-USD", "spec.products", "must be of type array"),
    Bad("with a truth value as text", "suspend: false", 'suspend: "no"', "spec.suspend", "must be of type boolean"),
    Bad("with a threshold as text", "above: 0.05", 'above: "5 %"', "spec.alerts[0].above", "must be of type number"),
    # Words.
    Bad(
        "of another exchange",
        "exchange: Coinbase",
        "exchange: Binance",
        "spec.exchange",
        'supported values: "Coinbase"',
    ),
    Bad("with another channel", "[matches, ticker]", "[matches, level2]", "spec.channels[1]", '"matches", "ticker"'),
    Bad("retained otherwise", "suspend: false", "retain: Keep", "spec.retain", 'supported values: "Delete", "Retain"'),
    Bad("with another mechanism", "scram-sha-512", "plain", "authentication.type", '"none", "tls", "scram-sha-512"'),
    Bad("with an unknown measure", "measure: drawdown", "measure: draw", "spec.alerts[0].measure", '"drawdown"'),
    Bad("with an unknown pattern", "pattern: tradeBurst", "pattern: burst", "spec.alerts[1].pattern", '"tradeBurst"'),
    Bad("with an unknown severity", "for: 2s", "severity: page", "spec.alerts[2].severity", '"warning"'),
    # Bounds.
    Bad("without products", "  products: [BTC-USD, ETH-USD]\n", "", "spec.products", "Required value"),
    Bad("of no product", "[BTC-USD, ETH-USD]", "[]", "spec.products", "should have at least 1 items"),
    Bad(
        "of too many products",
        "[BTC-USD, ETH-USD]",
        f"[{', '.join(f'A{number}-USD' for number in range(201))}]",
        "spec.products",
        "must have at most 200 items",
    ),
    Bad("of a product twice", "[BTC-USD, ETH-USD]", "[BTC-USD, BTC-USD]", "spec.products[1]", "Duplicate value"),
    Bad("of no producer", "replicas: 1,", "replicas: 0,", "spec.producer.replicas", "greater than or equal to 1"),
    Bad("of five connections", "connections: 2", "connections: 5", "producer.connections", "less than or equal to 4"),
    Bad("of no partition", "partitions: 6", "partitions: 0", "topics.partitions", "greater than or equal to 1"),
    Bad("of eleven copies", "replicas: 3", "replicas: 11", "spec.kafka.topics.replicas", "less than or equal to 10"),
    Bad("kept too short", "168h", "59s", "spec.kafka.topics.retention", "is out of bounds; write 1m to 3650d"),
    Bad("kept too long", "168h", "3651d", "spec.kafka.topics.retention", "is out of bounds; write 1m to 3650d"),
    Bad("begun too long ago", "since: 1h", "since: 721h", "producer.start.since", "is out of bounds; write 1s to 30d"),
    Bad("loaded too often", "every: 10s", "every: 999ms", "spec.warehouse.every", "is out of bounds; write 1s to 1h"),
    Bad("stored for a day", "every: 10s", "retention: 1d", "spec.warehouse.retention", "write 2d to 3650d"),
    Bad("held too long", "for: 2s", "for: 61m", "spec.alerts[2].for", "is out of bounds; write 0s to 1h"),
    Bad(
        "begun at a trade beyond any",
        "since: 1h",
        f"tradeIds: {{BTC-USD: {2**63}}}",
        "spec.producer.start.tradeIds.BTC-USD",
        "must be of type integer",
    ),
    Bad(
        "with a label of many words",
        "team: risk",
        f"team: {'a' * 257}",
        "spec.alerts[0].labels.team",
        "may not be more than 256",
    ),
    Bad(
        "with too many labels",
        "team: risk",
        ", ".join(f"a{number}: b" for number in range(21)),
        "spec.alerts[0].labels",
        "must have at most 20 items",
    ),
    # Forms.
    Bad(
        "kept in words", "168h", "a week", "topics.retention", "is not a duration; write a whole number and ms, s, m, h"
    ),
    Bad("of a product's other spelling", "ETH-USD]", "ETHUSDT]", "spec.products[1]", "write BASE-QUOTE in capitals"),
    Bad("with an address without scheme", "http://sandbox", "sandbox", "spec.endpoints.rest", "write https://host or"),
    Bad("with WebSockets over HTTP", "rest:", "websocket:", "spec.endpoints.websocket", "write wss://host or ws://"),
    Bad(
        "with brokers without port", STRIMZI, "bootstrapServers: b-1", "spec.kafka.bootstrapServers", "write host:port"
    ),
    Bad("with capitals in a name", "name: feeds", "name: Feeds", "strimziCluster.name", "write lower-case letters"),
    Bad(
        "with an underscore in the prefix", "partitions: 6", "prefix: a_b", "topics.prefix", "write lower-case letters"
    ),
    Bad("with two dots in the prefix", "partitions: 6", "prefix: a..b", "topics.prefix", "on both sides of each '.'"),
    Bad(
        "with a volume without unit",
        "size: 5Gi",
        'size: "5"',
        "checkpoint.volume.size",
        "and Mi, Gi or Ti, such as 5Gi",
    ),
    Bad(
        "with a checkpoint on s3", "volume: {size: 5Gi}", 'uri: "s3://b/c"', "checkpoint.uri", "write s3a://bucket/pre"
    ),
    Bad(
        "staged over https",
        "s3://bucket/staging",
        "https://bucket",
        "warehouse.staging.uri",
        "write s3://bucket/prefix",
    ),
    Bad("with a role by name", "arn:aws:iam::123456789012:role/", "", "staging.iamRole", "write arn:aws:iam::ACCOUNT:"),
    Bad("with an alert in lower case", "name: FlashCrash", "name: flash-crash", "spec.alerts[0].name", "in CamelCase"),
    Bad(
        "with an alert that is built in", "name: FlashCrash", "name: FeedStale", "spec.alerts[0].name", "choose another"
    ),
    Bad(
        "with a label of the monitor's",
        "team: risk",
        "window: a",
        "spec.alerts[0].labels",
        "window is set by the monitor",
    ),
    Bad(
        "with a label's name in kebab case",
        "team: risk",
        "on-call: a",
        "spec.alerts[0].labels",
        "on-call is not a name",
    ),
    Bad(
        "with an Alertmanager without scheme", "http://alert", "alert", "spec.alertmanagers[0]", "write https://host or"
    ),
    # Fields that do not fit together.
    Bad(
        "without matches", "[matches, ticker]", "[ticker]", "spec.channels", "matches is missing, and the tape is made"
    ),
    Bad(
        "of idle producers",
        "replicas: 1,",
        "replicas: 3,",
        "spec.producer.replicas",
        "share 2 product(s); write 2 or less",
    ),
    Bad("begun twice", "since: 1h", "since: 1h, tradeIds: {BTC-USD: 1}", "producer.start.tradeIds", "keep one"),
    Bad(
        "begun elsewhere",
        "since: 1h",
        "tradeIds: {SOL-USD: 1}",
        "start.tradeIds",
        "SOL-USD is not one of spec.products",
    ),
    Bad("without Kafka", f"    {STRIMZI}\n", "", "spec.kafka", "no Kafka is named; add strimziCluster: {name: ...} or"),
    Bad("with two Kafkas", STRIMZI, f"{STRIMZI}\n    {ELSEWHERE}", "spec.kafka.bootstrapServers", "keep one"),
    Bad(
        "without a password's Secret", STRIMZI, ELSEWHERE, "kafka.authentication", "scram-sha-512 with bootstrapServers"
    ),
    Bad(
        "with a Secret for nothing",
        "type: scram-sha-512",
        "secretRef: {name: a}",
        "secretRef",
        "type is none, which reads",
    ),
    Bad(
        "with Strimzi's topics elsewhere",
        STRIMZI,
        f"{ELSEWHERE}\n    topicManagement: Strimzi",
        "spec.kafka.topicManagement",
        "write Admin or leave it out",
    ),
    Bad(
        "with windows that do not slide",
        "slide: 1s",
        "slide: 7s",
        "analytics.windows",
        "1m is not a multiple of slide (7s)",
    ),
    Bad(
        "with parts of seconds", "slide: 1s", "slide: 1500ms", "spec.analytics.slide", "is not whole seconds; write 1s"
    ),
    Bad(
        "with a window twice",
        "[1m, 5m]",
        "[1m, 5m, 60s]",
        "spec.analytics.windows",
        '["1m", "60s"] have the same length',
    ),
    Bad("with two checkpoints", "size: 5Gi}", 'size: 5Gi}, uri: "s3a://b01/c"', "checkpoint.uri", "keep one"),
    Bad(
        "with Redshift without staging",
        "    staging:",
        "    #",
        "spec.warehouse.redshift",
        "Redshift loads from S3; add",
    ),
    Bad(
        "with staging without Redshift",
        "    redshift:",
        "    #",
        "spec.warehouse.staging",
        "add redshift or remove stag",
    ),
    Bad(
        "with alerts without analytics",
        "  analytics:",
        "  #",
        "spec.alerts",
        "there is no analytics; add analytics: {}",
    ),
    Bad(
        "with an alert twice",
        "name: TradeBurst",
        "name: FlashCrash",
        "spec.alerts[1]",
        'Duplicate value: {"name":"FlashCr',
    ),
    Bad(
        "with an alert that watches nothing",
        DRAWDOWN,
        "window: 5m",
        "spec.alerts[0]",
        "add measure, with above or below",
    ),
    Bad(
        "with an alert on two things",
        "drawdown,",
        "drawdown, pattern: flashCrash,",
        "spec.alerts[0].pattern",
        "keep one",
    ),
    Bad("with an alert without threshold", ", above: 0.05", "", "spec.alerts[0]", "no threshold; add above or below"),
    Bad(
        "with two thresholds",
        "above: 0.05",
        "above: 0.05, below: 0.01",
        "spec.alerts[0].below",
        "keep one, or write two",
    ),
    Bad(
        "with a threshold in per cent",
        "above: 0.05",
        "above: 5",
        "spec.alerts[0].above",
        "never fires; drawdown is at most 1",
    ),
    Bad(
        "with a threshold under the least", "above: 0.05", "below: 0", "spec.alerts[0].below", "drawdown is at least 0"
    ),
    Bad(
        "with thresholds of a measure",
        "above: 0.05",
        "thresholds: {trades: 1}",
        "alerts[0].thresholds",
        "write above or",
    ),
    Bad(
        "with a pattern above",
        BURST,
        f"{BURST}, above: 1",
        "spec.alerts[1].above",
        "tradeBurst has thresholds: tradeRateZ",
    ),
    Bad(
        "with a pattern's hysteresis",
        BURST,
        f"{BURST}, hysteresis: 1",
        "alerts[1].hysteresis",
        "belongs to a rule with",
    ),
    Bad(
        "with another's threshold",
        "{trades: 50}",
        "{drawdown: 0.1}",
        "spec.alerts[1].thresholds",
        "tradeBurst has the thr",
    ),
    Bad(
        "with a pattern's threshold in per cent",
        BURST,
        "pattern: vRecovery, window: 1m, thresholds: {drawdown: 2}",
        "spec.alerts[1].thresholds[drawdown]",
        "never fires; drawdown is at most 1",
    ),
    Bad(
        "with an unknown window",
        "window: 5m",
        "window: 15m",
        "spec.alerts",
        "FlashCrash: window 15m is not one of spec.ana",
    ),
    Bad(
        "with an unknown product",
        "products: [BTC-USD]",
        "products: [ADA-USD]",
        "spec.alerts",
        "TradeBurst: product ADA-USD",
    ),
    Bad(
        "without the ticker",
        "[matches, ticker]",
        "[matches]",
        "spec.alerts",
        "WideSpread: measure spread is computed from",
    ),
]


@dataclass(frozen=True)
class Change:
    """A feed, and a replacement in it that is refused with ``said`` when applied, or taken where that is empty."""

    name: str
    old: str
    new: str
    field: str = ""
    said: str = ""
    feed: str = GOOD

    @property
    def text(self) -> str:
        """The feed as changed."""
        assert self.old in self.feed
        return self.feed.replace(self.old, self.new, 1)


PREFIXED = GOOD.replace("partitions: 6", "prefix: one")
NAMED = GOOD.replace("partitions: 6", "prefix: majors")
TWELVE = GOOD.replace("partitions: 6", "partitions: 12")
PARTITIONS, PREFIX = "spec.kafka.topics.partitions", "spec.kafka.topics.prefix"

CHANGES = [
    Change(
        "more partitions",
        "partitions: 6",
        "partitions: 12",
        PARTITIONS,
        "partitions can't change: products would move to other partitions, and their trades out of order; write 6, or "
        "create another feed",
    ),
    Change("fewer partitions", "partitions: 6", "partitions: 3", PARTITIONS, "write 6, or create another feed"),
    Change("partitions left out", "partitions: 12, ", "", PARTITIONS, "write 12, or create another feed", TWELVE),
    Change(
        "another prefix",
        "prefix: one",
        "prefix: two",
        PREFIX,
        "the prefix can't change: the feed would begin a new tape beside its old one; write one, or create another "
        "feed",
        PREFIXED,
    ),
    Change("a prefix set", "partitions: 6", "prefix: two", PREFIX, "write majors, or create another feed"),
    Change("a prefix removed", "prefix: one, ", "", PREFIX, "write one, or create another feed", PREFIXED),
    Change(
        "another exchange", "exchange: Coinbase", "exchange: Kraken", "spec.exchange", 'supported values: "Coinbase"'
    ),
    Change("the feed's name as the prefix", "partitions: 6", "prefix: majors"),
    Change("no more prefix, which was the feed's name", "prefix: majors, ", "", feed=NAMED),
    Change("another Strimzi cluster", "name: feeds", "name: others"),
    Change(
        "another kind of Kafka",
        STRIMZI,
        "bootstrapServers: b-1:9092",
        feed=GOOD.replace("authentication: {type: scram-sha-512}", ""),
    ),
    Change("another retention", "168h", "24h"),
    Change("a product more", "ETH-USD]", "ETH-USD, SOL-USD]"),
    Change("suspension", "suspend: false", "suspend: true"),
    Change(
        "no more analytics",
        GOOD[GOOD.index("  analytics:") : GOOD.index("  warehouse:")],
        "",
        feed=GOOD[: GOOD.index("  alerts:")],
    ),
]
