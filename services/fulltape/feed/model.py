"""The `CryptoFeed`: every field a user may write, its default, its bounds, and the rules that hold across fields.

This is the one source of the custom resource's schema and of docs/feed.md: a field's docstring is what ``kubectl
explain`` prints, so each is written for whoever fills the field in. Patterns keep to what RE2 and Python both read.
Values are strict, as the API server's are: ``partitions: "6"`` is a mistake.
"""

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from fulltape.feed.duration import Between, Duration
from fulltape.feed.patterns import PATTERNS, PatternName
from fulltape.measures.names import MEASURES
from fulltape.topics import Topics

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong: where, as keys and list positions, and a sentence with the mend."""

    where: tuple[str | int, ...]
    text: str


class CrossFieldError(ValueError):
    """Fields that are right by themselves do not fit together; ``where`` is relative to the validated value."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("; ".join(f"{dotted(mistake.where)}: {mistake.text}" for mistake in mistakes))
        self.mistakes = tuple(mistakes)


def dotted(where: Iterable[str | int]) -> str:
    """Write a place as people read it: ``("spec", "products", 3)`` is ``spec.products[3]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).removeprefix(".")


@dataclass(frozen=True, slots=True)
class AtMost:
    """Annotates a string with how many characters it may have."""

    characters: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "maxLength": self.characters}

    def check(self, value: str) -> str:
        """Return the string, or refuse it if it is longer."""
        if len(value) > self.characters:
            raise PydanticCustomError(
                "shape",
                "{value} has {length} characters; at most {most} are allowed",
                {"value": shown(value), "length": len(value), "most": self.characters},
            )
        return value


@dataclass(frozen=True, slots=True)
class Shape:
    """Annotates a string with the pattern it must match and the words for when it does not.

    In the JSON schema the words stand as ``x-mend``.
    """

    pattern: str
    most_characters: int
    mend: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        text = {"pattern": self.pattern, "maxLength": self.most_characters, "x-mend": self.mend}
        return {**handler(schema), **text}

    def _check(self, value: str) -> str:
        AtMost(self.most_characters).check(value)
        if re.fullmatch(self.pattern, value) is None:
            raise PydanticCustomError("shape", "{value} {mend}", {"value": shown(value), "mend": self.mend})
        return value


def shown(value: object) -> str:
    """Quote a value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _once_each(values: tuple[T, ...]) -> tuple[T, ...]:
    """Refuse a list in which a value stands twice."""
    _refuse(_repeats(values, ()))
    return values


def _repeats(values: Iterable[Hashable], within: tuple[str | int, ...]) -> list[Mistake]:
    first: dict[Hashable, int] = {}
    mistakes = []
    for position, value in enumerate(values):
        if value in first:
            mistakes.append(
                Mistake((*within, position), f"{value} is already item {first[value]} of the list; remove one")
            )
        first.setdefault(value, position)
    return mistakes


def _refuse(mistakes: Sequence[Mistake]) -> None:
    if mistakes:
        raise CrossFieldError(mistakes)


def _measure(name: str) -> str:
    if name not in MEASURES:
        raise PydanticCustomError(
            "measure",
            "{name} is not a measure; write one of {measures}",
            {"name": shown(name), "measures": ", ".join(MEASURES)},
        )
    return name


Many = Annotated[tuple[T, ...], Field(strict=False)]
"""A list in a feed; a tuple here, since a feed never changes."""

SET = {"x-kubernetes-list-type": "set"}

DnsLabel = Annotated[
    str,
    Shape(
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        63,
        "is not a Kubernetes name; write lower-case letters, digits and '-', beginning and ending with a letter or "
        "digit",
    ),
]
_DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
DnsName = Annotated[
    str,
    Shape(
        _DNS_SUBDOMAIN,
        253,
        "is not a Kubernetes name; write lower-case letters, digits, '-' and '.', with a letter or digit at both ends "
        "and on both sides of each '.'",
    ),
]
FeedName = Annotated[
    str,
    Shape(
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        40,
        "can't name a feed; write lower-case letters, digits and '-', beginning and ending with a letter or digit, "
        "such as majors",
    ),
]
Product = Annotated[
    str,
    Shape(
        "^[A-Z0-9]{1,20}-[A-Z][A-Z0-9]{0,19}$", 41, "is not a product; write BASE-QUOTE in capitals, such as BTC-USD"
    ),
]
WebAddress = Annotated[
    str,
    Shape(
        "^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$",
        253,
        "is not a web address; write https://host or http://host:port",
    ),
]
LabelName = Annotated[
    str,
    Shape(
        "^[a-zA-Z_][a-zA-Z0-9_]*$",
        100,
        "is not a name that Alertmanager takes; write letters, digits and '_', not beginning with a digit",
    ),
]
HostName = Annotated[
    str,
    Shape(
        r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)*[a-z]([-a-z0-9]*[a-z0-9])?$",
        253,
        "is not the name of a host; write lower-case letters, digits, '-' and '.', no address and no port, such as "
        "majors.example.com",
    ),
]
AnnotationName = Annotated[
    str,
    Shape(
        rf"^({_DNS_SUBDOMAIN[1:-1]}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?$",
        317,
        "is not an annotation's name; write name or domain/name",
    ),
]
Measure = Annotated[str, AfterValidator(_measure), Field(json_schema_extra={"enum": list(MEASURES)})]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class FeedModel(BaseModel):
    """What all parts of a feed share: camelCase in files, no unknown field, no change after loading."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class SecretReference(FeedModel):
    """A Secret in the feed's namespace."""

    name: DnsName
    """The Secret's name."""


class Metadata(FeedModel):
    """The feed's name, and where it lives. What the API server adds to an object is dropped."""

    name: FeedName
    """The feed's name; unless spec.kafka.topics.prefix says otherwise its topics begin with it."""
    namespace: DnsLabel = "default"
    """The namespace of the feed and of all that runs for it."""
    labels: dict[str, str] = {}
    """Kubernetes labels of the feed."""
    annotations: dict[str, str] = {}
    """Kubernetes annotations of the feed."""

    @model_validator(mode="before")
    @classmethod
    def _drop_what_the_server_adds(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {key: value for key, value in data.items() if key not in _SET_BY_THE_SERVER}


_SET_BY_THE_SERVER = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)


class Endpoints(FeedModel):
    """Where the exchange is reached."""

    websocket: Annotated[
        str,
        Shape(
            "^wss?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$",
            253,
            "is not a WebSocket address; write wss://host or ws://host:port",
        ),
    ] = "wss://ws-feed.exchange.coinbase.com"
    """Address of the WebSocket feed."""
    rest: WebAddress = "https://api.exchange.coinbase.com"
    """Address of the REST API, from which missing trades are fetched."""


class Start(FeedModel):
    """From where a tape begins that holds no trade yet."""

    since: Annotated[Duration, Between("1s", "30d")] | None = None
    """Begin with the trades of this long ago, fetched from REST. Not together with tradeIds."""
    trade_ids: (
        Annotated[dict[Product, Annotated[int, Field(ge=1, le=2**63 - 1)]], Field(min_length=1, max_length=200)] | None
    ) = None
    """Begin each product with this trade_id; a product that is not listed begins with its latest trade. Not together
    with since."""

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if self.since is not None and self.trade_ids is not None:
            _refuse([Mistake(("tradeIds",), "since and tradeIds exclude each other; keep one")])
        return self


class Producer(FeedModel):
    """What reads the exchange and writes the tape."""

    replicas: Annotated[int, Field(ge=1, le=50)] = 1
    """Producers that share the products among them; at most one for each product."""
    connections: Annotated[int, Field(ge=1, le=4)] = 2
    """WebSocket connections of each producer. Of a trade that several bring, the first copy counts, so that losing one
    connection costs nothing."""
    start: Start = Start()
    """From where a tape begins that holds no trade yet: {} is the latest trade, {since: 24h} a time ago, {tradeIds:
    {BTC-USD: 123}} a certain trade. A tape that holds trades is always continued where it ends."""


class StrimziCluster(FeedModel):
    """A Kafka cluster that Strimzi runs."""

    name: DnsLabel
    """Name of the Kafka resource."""
    namespace: DnsLabel | None = None
    """Its namespace; the feed's own if left out."""


class TopicSettings(FeedModel):
    """How the feed's topics are made."""

    prefix: (
        Annotated[
            str,
            Shape(
                _DNS_SUBDOMAIN,
                100,
                "can't begin a topic's name; write lower-case letters, digits, '-' and '.', with a letter or digit at "
                "both ends and on both sides of each '.'",
            ),
        ]
        | None
    ) = None
    """What the names of the topics begin with, as in PREFIX.trades; the feed's name if left out. It can't be changed
    later, and no other feed of the same Kafka cluster may have the same."""
    partitions: Annotated[int, Field(ge=1, le=1000)] = 6
    """Partitions of the tape and of the ticker topic. A product stays in one of them; the number can't change later."""
    replicas: Annotated[int, Field(ge=1, le=10)] = 3
    """Brokers that hold a copy of each topic. With 3, one broker may fail and the feed goes on."""
    retention: Annotated[Duration, Between("1m", "3650d")] = Duration("168h")
    """How long Kafka keeps trades, tickers and rejected messages."""


class Authentication(FeedModel):
    """How the feed proves to Kafka who it is."""

    type: Literal["none", "tls", "scram-sha-512"] = "none"
    """none, tls (a client certificate) or scram-sha-512 (a password)."""
    secret_ref: SecretReference | None = None
    """The Secret with the credentials, laid out as Strimzi's KafkaUser does (user.crt and user.key, or password and
    sasl.jaas.config) or as MSK does (username and password). Needed with bootstrapServers; with strimziCluster the
    operator makes a KafkaUser if it is left out."""

    @model_validator(mode="after")
    def _no_secret_without_use(self) -> Self:
        if self.type == "none" and self.secret_ref is not None:
            _refuse([Mistake(("secretRef",), "type is none, which reads no Secret; set type or remove secretRef")])
        return self


class Tls(FeedModel):
    """How the brokers prove who they are."""

    ca_secret_ref: SecretReference | None = None
    """The Secret whose ca.crt signed the brokers' certificates; public authorities if left out (Strimzi's cluster CA
    with strimziCluster)."""


class Kafka(FeedModel):
    """The Kafka cluster that holds the feed."""

    strimzi_cluster: StrimziCluster | None = None
    """The Strimzi cluster to use. Either this or bootstrapServers."""
    bootstrap_servers: (
        Annotated[
            str,
            Shape(
                "^[A-Za-z0-9._-]+:[0-9]{1,5}(,[A-Za-z0-9._-]+:[0-9]{1,5})*$",
                2000,
                "is not a list of brokers; write host:port, with commas between several and no spaces",
            ),
        ]
        | None
    ) = None
    """Brokers of any other Kafka, such as Amazon MSK, as host:port with commas between. Either this or
    strimziCluster."""
    topic_management: Literal["Strimzi", "Admin"] | None = None
    """Who makes the topics: Strimzi (by KafkaTopic resources; the default with strimziCluster) or Admin (by Kafka's
    admin API; the default with bootstrapServers)."""
    topics: TopicSettings = TopicSettings()
    """How the feed's topics are made."""
    authentication: Authentication = Authentication()
    """How the feed proves to Kafka who it is."""
    tls: Tls | None = None
    """How the brokers prove who they are. Connections are encrypted with strimziCluster, with any authentication, and
    where this is given; tls: {} trusts the public authorities."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        mistakes = []
        if self.strimzi_cluster is None and self.bootstrap_servers is None:
            mistakes.append(
                Mistake((), "no Kafka is named; add strimziCluster: {name: ...} or bootstrapServers: host:port")
            )
        if self.strimzi_cluster is not None and self.bootstrap_servers is not None:
            mistakes.append(
                Mistake(("bootstrapServers",), "strimziCluster and bootstrapServers exclude each other; keep one")
            )
        if self.strimzi_cluster is None and self.topic_management == "Strimzi":
            mistakes.append(
                Mistake(
                    ("topicManagement",), "Strimzi manages topics of a strimziCluster only; write Admin or leave it out"
                )
            )
        if (
            self.strimzi_cluster is None
            and self.authentication.type != "none"
            and self.authentication.secret_ref is None
        ):
            mistakes.append(
                Mistake(
                    ("authentication",),
                    f"{self.authentication.type} with bootstrapServers needs the Secret with the credentials; "
                    "add secretRef: {name: ...}",
                )
            )
        _refuse(mistakes)
        return self

    @property
    def topics_managed_by(self) -> Literal["Strimzi", "Admin"]:
        """Who makes the topics, the default resolved."""
        return self.topic_management or ("Admin" if self.strimzi_cluster is None else "Strimzi")

    @property
    def encrypted(self) -> bool:
        """Whether connections to the brokers use TLS."""
        return self.strimzi_cluster is not None or self.tls is not None or self.authentication.type != "none"


class Volume(FeedModel):
    """A persistent volume."""

    size: Annotated[
        str,
        Shape("^[1-9][0-9]{0,5}(Mi|Gi|Ti)$", 8, "is not a size; write a whole number and Mi, Gi or Ti, such as 5Gi"),
    ] = "5Gi"
    """Size of the volume."""
    storage_class_name: DnsName | None = None
    """Its storage class; the cluster's default if left out."""


class Checkpoint(FeedModel):
    """Where Spark keeps its state between restarts."""

    volume: Volume | None = None
    """A persistent volume. Either this or uri; a volume of 5Gi if both are left out."""
    uri: (
        Annotated[
            str,
            Shape(
                "^s3a://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?$",
                1000,
                "is not a place for checkpoints; write s3a://bucket/prefix",
            ),
        ]
        | None
    ) = None
    """An S3 prefix, as s3a://bucket/prefix. Either this or volume."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.volume is not None and self.uri is not None:
            _refuse([Mistake(("uri",), "volume and uri exclude each other; keep one")])
        return self


class Analytics(FeedModel):
    """Sliding windows over the tape, live."""

    windows: Annotated[
        Many[Annotated[Duration, Between("1s", "1h")]],
        Field(min_length=1, max_length=8, json_schema_extra=SET),
        AfterValidator(_once_each),
    ] = (Duration("1m"), Duration("5m"))
    """Lengths of the windows that every measure is computed over; each a multiple of slide."""
    slide: Annotated[Duration, Between("1s", "1m")] = Duration("1s")
    """How often each window moves on; whole seconds."""
    watermark: Annotated[Duration, Between("1s", "1h")] = Duration("10m")
    """How late a trade may come and still correct its window."""
    replicas: Annotated[int, Field(ge=1, le=2)] = 1
    """Identical streams of which the faster counts; 2 hides the loss of one."""
    executors: Annotated[int, Field(ge=1, le=50)] = 2
    """Spark executors of each stream."""
    checkpoint: Checkpoint = Checkpoint()
    """Where Spark keeps its state between restarts."""

    @model_validator(mode="after")
    def _windows_slide(self) -> Self:
        if self.slide.us % 1_000_000:
            _refuse([Mistake(("slide",), f"{self.slide} is not whole seconds; write 1s, 2s, ...")])
        _refuse(
            [
                Mistake(
                    ("windows", position), f"{window} is not a multiple of slide ({self.slide}); change one of the two"
                )
                for position, window in enumerate(self.windows)
                if window.us % self.slide.us
            ]
        )
        return self


class Redshift(FeedModel):
    """An Amazon Redshift database."""

    secret_ref: SecretReference
    """The Secret with host, port, database, username and password."""


class Staging(FeedModel):
    """Where files wait for Redshift to load them."""

    uri: Annotated[
        str,
        Shape(
            "^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?$",
            1000,
            "is not a place on S3; write s3://bucket/prefix",
        ),
    ]
    """An S3 prefix, as s3://bucket/prefix."""
    iam_role: Annotated[
        str,
        Shape(
            "^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$",
            2048,
            "is not a role's ARN; write arn:aws:iam::ACCOUNT:role/NAME",
        ),
    ]
    """The role with which Redshift reads the files."""


class Warehouse(FeedModel):
    """Where trades and final windows are stored for good."""

    redshift: Redshift | None = None
    """The Redshift database; a laptop uses a DuckDB file if it is left out. Needs staging."""
    staging: Staging | None = None
    """Where files wait for Redshift to load them. Needs redshift."""
    every: Annotated[Duration, Between("1s", "1h")] = Duration("10s")
    """How often what is new is loaded."""
    retention: Annotated[Duration | None, Between("2d", "3650d")] = None
    """How long rows stay, by their own time and in whole days (UTC); for good if it is left out."""

    @model_validator(mode="after")
    def _redshift_with_staging(self) -> Self:
        if self.redshift is not None and self.staging is None:
            _refuse(
                [Mistake(("redshift",), "Redshift loads from S3; add staging: {uri: s3://bucket/prefix, iamRole: arn}")]
            )
        if self.staging is not None and self.redshift is None:
            _refuse([Mistake(("staging",), "only Redshift uses staging; add redshift or remove staging")])
        return self


class Ingress(FeedModel):
    """An Ingress, by which browsers outside the cluster reach the page."""

    host: HostName
    """The name that browsers reach the page by."""
    class_name: DnsName | None = None
    """The IngressClass; the cluster's default if left out."""
    annotations: Annotated[dict[AnnotationName, Annotated[str, AtMost(4096)]], Field(max_length=20)] = {}
    """Annotations of the Ingress, as its controller or a maker of certificates reads them."""
    tls_secret_ref: SecretReference | None = None
    """The Secret with the certificate, tls.crt and tls.key; without TLS, or with that of the annotations, if left
    out."""


class Gateway(FeedModel):
    """A Gateway, or one of its listeners."""

    name: DnsName
    """The Gateway's name."""
    namespace: DnsLabel | None = None
    """Its namespace; the feed's own if left out."""
    section_name: DnsName | None = None
    """The listener; all that take the route if left out."""


class HttpRoute(FeedModel):
    """An HTTPRoute of the Gateway API, by which browsers outside the cluster reach the page."""

    host: HostName
    """The name that browsers reach the page by."""
    parent_refs: Annotated[Many[Gateway], Field(min_length=1, max_length=8)]
    """The Gateways that the route belongs to, or their listeners, each once; they hold the certificates."""

    @model_validator(mode="after")
    def _gateways_once_each(self) -> Self:
        refs = self.parent_refs
        _refuse(
            [
                Mistake(
                    ("parentRefs", position),
                    f"Gateway {gateway.name} is item {first} of the list too; name another listener in each by "
                    "sectionName, or remove one",
                )
                for position, gateway in enumerate(refs)
                if (first := next(place for place, other in enumerate(refs) if _overlap(gateway, other))) < position
            ]
        )
        return self


def _overlap(one: Gateway, other: Gateway) -> bool:
    """Tell whether two references are to the same Gateway, and not to listeners of it that differ."""
    if (one.name, one.namespace) != (other.name, other.namespace):
        return False
    return None in (one.section_name, other.section_name) or one.section_name == other.section_name


class Dashboard(FeedModel):
    """How browsers outside the cluster reach the page; within it they do by the Service."""

    ingress: Ingress | None = None
    """An Ingress. Either this or httpRoute."""
    http_route: HttpRoute | None = None
    """An HTTPRoute of the Gateway API. Either this or ingress."""

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.ingress is None and self.http_route is None:
            _refuse([Mistake((), "no way to the page is named; add ingress: {host: ...} or httpRoute")])
        if self.ingress is not None and self.http_route is not None:
            _refuse([Mistake(("httpRoute",), "ingress and httpRoute exclude each other; keep one")])
        return self

    @property
    def host(self) -> str:
        """The name that browsers reach the page by."""
        way_in = self.ingress or self.http_route
        assert way_in is not None  # the model wants one
        return way_in.host


BUILT_IN_ALERTS = ("FeedStale", "TradesMissing", "LatencyOverBudget")
"""Alerts that every feed with analytics has without asking."""

ALERT_LABELS = ("alertname", "feed", "namespace", "product", "window", "severity")
"""Labels that the monitor sets on every alert, by which Alertmanager tells one from another."""

_MOST_THRESHOLDS = max(len(pattern.thresholds) for pattern in PATTERNS.values())


def _alert_name(name: str) -> str:
    if name in BUILT_IN_ALERTS:
        raise PydanticCustomError("built_in", "{name} is built in; choose another name", {"name": shown(name)})
    return name


def _own_labels(labels: dict[str, str]) -> dict[str, str]:
    """Refuse labels that the monitor sets itself."""
    _refuse(
        [
            Mistake((name,), f"is set by the monitor, as are {', '.join(ALERT_LABELS)}; choose another name")
            for name in labels
            if name in ALERT_LABELS
        ]
    )
    return labels


class AlertRule(FeedModel):
    """A condition on a window, watched for each product: a measure beyond a threshold, or a pattern."""

    name: Annotated[
        str,
        Shape(
            "^[A-Z][A-Za-z0-9]*$", 60, "can't name an alert; write letters and digits in CamelCase, as in FlashCrash"
        ),
        AfterValidator(_alert_name),
    ]
    """The alert's name, unique within the feed; FeedStale, TradesMissing and LatencyOverBudget are built in."""
    measure: Measure | None = None
    """The measure that is watched. Either this, with above or below, or pattern."""
    pattern: PatternName | None = None
    """The pattern that is watched for (docs/alerts.md says what each is): flashCrash, vRecovery, tradeBurst,
    washTrading or liquidityGap. Either this or measure."""
    window: Annotated[Duration, Between("1s", "1h")]
    """Over which window; one of spec.analytics.windows."""
    above: Finite | None = None
    """Fires when the measure is above this. Either this or below."""
    below: Finite | None = None
    """Fires when the measure is below this. Either this or above."""
    thresholds: Annotated[dict[str, Finite], Field(max_length=_MOST_THRESHOLDS)] = {}
    """Thresholds of the pattern in place of its own, each by the name of a measure, as in {drawdown: 0.03}."""
    products: (
        Annotated[Many[Product], Field(min_length=1, max_length=200, json_schema_extra=SET), AfterValidator(_once_each)]
        | None
    ) = None
    """The products that are watched; all of the feed's if left out."""
    held_for: Annotated[Duration, Between("0s", "1h"), Field(alias="for")] = Duration("0s")
    """How long, in the exchange's time, the condition must hold before the alert fires."""
    hysteresis: Annotated[Finite, Field(ge=0)] = 0.0
    """How far the measure must come back across the threshold before the alert resolves, in the measure's unit. A
    pattern has its own: a fifth of each threshold."""
    severity: Literal["info", "warning", "critical"] = "warning"
    """info, warning or critical; becomes a label, by which Alertmanager routes."""
    labels: Annotated[
        dict[LabelName, Annotated[str, AtMost(256)]], Field(max_length=20), AfterValidator(_own_labels)
    ] = {}
    """Further labels of the alert, beside alertname, feed, namespace, product, window and severity."""
    annotations: Annotated[dict[LabelName, Annotated[str, AtMost(4096)]], Field(max_length=20)] = {}
    """Further annotations of the alert, such as runbook_url."""

    @model_validator(mode="after")
    def _watches_one_thing(self) -> Self:
        if self.measure is None and self.pattern is None:
            _refuse([Mistake((), "the rule watches nothing; add measure, with above or below, or pattern")])
        if self.measure is not None and self.pattern is not None:
            _refuse([Mistake(("pattern",), "measure and pattern exclude each other; keep one, or write two rules")])
        return self

    @model_validator(mode="after")
    def _measure_can_cross(self) -> Self:
        if self.measure is None:
            return self
        if self.thresholds:
            _refuse([Mistake(("thresholds",), "belongs to a rule with pattern; write above or below")])
        if self.above is None and self.below is None:
            _refuse([Mistake((), "the rule has no threshold; add above or below")])
        if self.above is not None and self.below is not None:
            _refuse([Mistake(("below",), "above and below exclude each other; keep one, or write two rules")])
        _refuse(_mistakes_of_threshold(self.measure, self.above, self.below))
        return self

    @model_validator(mode="after")
    def _pattern_can_appear(self) -> Self:
        if self.pattern is None:
            return self
        pattern = PATTERNS[self.pattern]
        watched = ", ".join(pattern.thresholds)
        _refuse(
            [
                Mistake((field,), f"belongs to a rule with measure; {self.pattern} has thresholds: {watched}")
                for field, value in (
                    ("above", self.above),
                    ("below", self.below),
                    ("hysteresis", self.hysteresis or None),
                )
                if value is not None
            ]
        )
        _refuse(
            [
                Mistake(("thresholds", name), f"is not a threshold of {self.pattern}; it has {watched}")
                for name in self.thresholds
                if name not in pattern.thresholds
            ]
        )
        for case in pattern.cases:
            for condition in case:
                value = self.thresholds.get(condition.threshold)
                above, below = (None, value) if condition.below else (value, None)
                found = _mistakes_of_threshold(condition.measure, above, below)
                _refuse([Mistake(("thresholds", condition.threshold), mistake.text) for mistake in found])
        return self


def _mistakes_of_threshold(name: str, above: float | None, below: float | None) -> list[Mistake]:
    """Say where a threshold lies beyond what its measure can reach."""
    measure = MEASURES[name]
    hint = f"({measure.description})"
    if above is not None and above >= measure.most:
        return [Mistake(("above",), f"never fires; {name} is at most {measure.most:g} {hint}")]
    if below is not None and below <= measure.least:
        return [Mistake(("below",), f"never fires; {name} is at least {measure.least:g} {hint}")]
    return []


class Spec(FeedModel):
    """What the feed shall be."""

    exchange: Literal["Coinbase"] = "Coinbase"
    """The exchange to read."""
    endpoints: Endpoints = Endpoints()
    """Where the exchange is reached, if not at its usual addresses."""
    products: Annotated[
        Many[Product], Field(min_length=1, max_length=200, json_schema_extra=SET), AfterValidator(_once_each)
    ]
    """The products to record, as BASE-QUOTE, such as BTC-USD; each once."""
    channels: Annotated[
        Many[Literal["matches", "ticker"]],
        Field(min_length=1, max_length=2, json_schema_extra=SET),
        AfterValidator(_once_each),
    ] = ("matches",)
    """What to record: matches (the trades; always needed) and ticker (the best bid and offer). The exchange's heartbeat
    is always read."""
    suspend: bool = False
    """Stops everything that runs for the feed and keeps its data."""
    retain: Literal["Delete", "Retain"] = "Delete"
    """What becomes of the feed's topics when the feed is deleted: Delete or Retain."""
    producer: Producer = Producer()
    """What reads the exchange and writes the tape."""
    kafka: Kafka
    """The Kafka cluster that holds the feed."""
    analytics: Analytics | None = None
    """Sliding windows over the tape, live; none if left out. {} takes all defaults."""
    dashboard: Dashboard | None = None
    """How browsers outside the cluster reach the page; they do not if left out. Needs analytics."""
    warehouse: Warehouse | None = None
    """Where trades and final windows are stored for good; nowhere if left out."""
    alerts: Annotated[
        Many[AlertRule],
        Field(
            max_length=50,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    """Conditions on the live windows; need analytics."""
    alertmanagers: Annotated[
        Many[WebAddress], Field(max_length=10, json_schema_extra=SET), AfterValidator(_once_each)
    ] = ()
    """Addresses of the Alertmanagers, each of which gets every alert, such as http://alertmanager.monitoring:9093; need
    analytics. Without any, alerts are seen on the dashboard and in Kafka."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _refuse([*self._mistakes_of_the_source(), *self._mistakes_of_the_page(), *self._mistakes_of_alerts()])
        return self

    def _mistakes_of_the_source(self) -> list[Mistake]:
        mistakes = []
        if "matches" not in self.channels:
            mistakes.append(Mistake(("channels",), "matches is missing, and the tape is made of it; add it"))
        if self.producer.replicas > len(self.products):
            mistakes.append(
                Mistake(
                    ("producer", "replicas"),
                    f"{self.producer.replicas} producers can't share {len(self.products)} product(s); "
                    f"write {len(self.products)} or less",
                )
            )
        mistakes += [
            Mistake(
                ("producer", "start", "tradeIds", product),
                "is not one of spec.products; add it there or remove it here",
            )
            for product in self.producer.start.trade_ids or {}
            if product not in self.products
        ]
        return mistakes

    def _mistakes_of_the_page(self) -> list[Mistake]:
        if self.dashboard is None or self.analytics is not None:
            return []
        return [Mistake(("dashboard",), "the page shows windows, and there is no analytics; add analytics: {}")]

    def _mistakes_of_alerts(self) -> list[Mistake]:
        if self.analytics is None:
            return [
                Mistake((field,), "alerts watch windows, and there is no analytics; add analytics: {}")
                for field, given in (("alerts", self.alerts), ("alertmanagers", self.alertmanagers))
                if given
            ]
        mistakes = []
        names: dict[str, int] = {}
        for position, rule in enumerate(self.alerts):
            first = names.setdefault(rule.name, position)
            if first != position:
                mistakes.append(
                    Mistake(
                        ("alerts", position, "name"),
                        f"{rule.name!r} already names item {first} of the list; rename or remove one",
                    )
                )
            if rule.window not in self.analytics.windows:
                windows = ", ".join(map(str, self.analytics.windows))
                mistakes.append(
                    Mistake(
                        ("alerts", position, "window"),
                        f"{rule.window} is not one of spec.analytics.windows ({windows}); add it there or write one of "
                        "them",
                    )
                )
            if rule.measure is not None and MEASURES[rule.measure].needs_ticker and "ticker" not in self.channels:
                mistakes.append(
                    Mistake(
                        ("alerts", position, "measure"),
                        f"{rule.measure} is computed from the ticker, which is not recorded; add ticker to "
                        "spec.channels",
                    )
                )
            mistakes += [
                Mistake(
                    ("alerts", position, "products", place),
                    f"{product} is not one of spec.products; add it there or remove it here",
                )
                for place, product in enumerate(rule.products or ())
                if product not in self.products
            ]
        return mistakes


class CryptoFeed(FeedModel):
    """A market-data feed: what to read, where to keep it, and what to watch in it."""

    api_version: Literal["fulltape.dev/v1alpha1"]
    """Always fulltape.dev/v1alpha1."""
    kind: Literal["CryptoFeed"]
    """Always CryptoFeed."""
    metadata: Metadata
    """The feed's name, and where it lives."""
    spec: Spec
    """What the feed shall be."""

    @model_validator(mode="before")
    @classmethod
    def _drop_status(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {key: value for key, value in data.items() if key != "status"}

    @property
    def topics(self) -> Topics:
        """The names of the feed's topics."""
        return Topics(self.spec.kafka.topics.prefix or self.metadata.name)

    def to_dict(self) -> dict[str, Any]:
        """Return the feed as it would be written, with every default and without what is left out.

        Write it to a file as JSON: that is YAML in which no text can be taken for a number, such as a feed named 1e3.
        """
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
