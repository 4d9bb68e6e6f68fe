"""Feeds to test with: those of the examples, and any that the model allows; and platforms that turn all on."""

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fulltape.feed.load import load_feed
from fulltape.feed.model import CryptoFeed
from fulltape.feed.patterns import PATTERNS
from fulltape.measures.names import MEASURES
from fulltape_operator.platform import S3, Platform

_FOLDER = Path(__file__).parents[3] / "examples"
EXAMPLES = sorted(_FOLDER.glob("*.yaml"))
MAJORS, STRIMZI, MSK = (load_feed(_FOLDER / f"{name}.yaml") for name in ("majors", "strimzi", "aws-msk"))

EVERYTHING = Platform(
    image_pull_secrets=("registry",),
    service_account_annotations={"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/feeds"},
    s3=S3(endpoint="http://minio.storage:9000", region="eu-central-1", secret_name="s3"),
    node_selector={"disk": "fast"},
    priority_class_name="market-data",
    pod_monitors=True,
    prometheus_rules=True,
)
KUBEFLOW = EVERYTHING.model_copy(update={"spark_backend": "kubeflow"})


def changed(feed: CryptoFeed, **spec: Any) -> CryptoFeed:
    """Return a feed with these fields of its spec in place of its own."""
    data = feed.to_dict()
    return CryptoFeed.model_validate({**data, "spec": data["spec"] | spec})


def _names(most: int) -> st.SearchStrategy[str]:
    """Return names that resemble one another, as those that might clash do, and some as long as is allowed."""
    near = st.text("ab0-", min_size=1, max_size=6).map(lambda text: text.strip("-") or "a")
    return st.one_of(near, st.sampled_from(["x" * most, f"{'x' * (most - 2)}-0"]))


FEED_NAMES, NAMESPACES = _names(40), _names(63)
_SECRETS = st.sampled_from(["credentials", "msk.example"]).map(lambda name: {"name": name})
_PRODUCTS = ["BTC-USD", "ETH-USD", "SOL-USD", "00-USD", "LTC-EUR"]
_HOSTS = st.sampled_from(["majors.example.com", "page"])
_REDSHIFT = {
    "redshift": {"secretRef": {"name": "redshift"}},
    "staging": {"uri": "s3://staging/prefix", "iamRole": "arn:aws:iam::123456789012:role/loader"},
}
_CHECKPOINTS: list[dict[str, Any]] = [
    {},
    {"volume": {}},
    {"volume": {"size": "1024Mi", "storageClassName": "fast"}},
    {"uri": "s3a://checkpoints/prefix/"},
]
_ENDPOINTS = st.fixed_dictionaries(
    {}, optional={"websocket": st.just("ws://sandbox:8765"), "rest": st.just("http://sandbox:8766")}
)


def _overlap_nowhere(gateways: list[dict[str, str]]) -> bool:
    """Tell whether a Gateway that stands twice has a listener named each time."""
    places = [(gateway["name"], gateway.get("namespace")) for gateway in gateways]
    return all(
        "sectionName" in gateway or places.count(place) == 1 for gateway, place in zip(gateways, places, strict=True)
    )


@st.composite
def feeds(draw: st.DrawFn) -> CryptoFeed:
    """Draw a feed that is valid; every field of the model is among what is drawn."""
    products = draw(st.lists(st.sampled_from(_PRODUCTS), min_size=1, unique=True))
    channels = ["matches", *draw(st.sampled_from([[], ["ticker"]]))]
    spec: dict[str, Any] = {
        "exchange": "Coinbase",
        "endpoints": draw(_ENDPOINTS),
        "products": products,
        "channels": channels,
        "suspend": draw(st.booleans()),
        "retain": draw(st.sampled_from(["Delete", "Retain"])),
        "producer": draw(_producer(products)),
        "kafka": draw(st.one_of(_on_strimzi(), _elsewhere())),
    }
    if draw(st.booleans()):
        spec |= {"analytics": draw(_ANALYTICS), "alertmanagers": draw(st.sampled_from([[], ["http://alerts:9093"]]))}
        spec["alerts"] = draw(_alerts(products, spec["analytics"]["windows"], ticker="ticker" in channels))
        spec |= draw(st.fixed_dictionaries({}, optional={"dashboard": st.one_of(_INGRESS, _HTTP_ROUTE)}))
    spec |= draw(st.fixed_dictionaries({}, optional={"warehouse": _WAREHOUSES}))
    metadata = {"name": draw(FEED_NAMES), "namespace": draw(NAMESPACES)}
    return CryptoFeed.model_validate(
        {"apiVersion": "fulltape.dev/v1alpha1", "kind": "CryptoFeed", "metadata": metadata, "spec": spec}
    )


def _producer(products: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    ids = st.dictionaries(st.sampled_from(products), st.integers(1, 2**63 - 1), min_size=1)
    starts = st.one_of(st.just({}), st.just({"since": "24h"}), ids.map(lambda drawn: {"tradeIds": drawn}))
    return st.fixed_dictionaries(
        {"replicas": st.integers(1, len(products))}, optional={"connections": st.integers(1, 4), "start": starts}
    )


_INGRESS = st.fixed_dictionaries(
    {"host": _HOSTS},
    optional={
        "className": st.just("nginx"),
        "annotations": st.dictionaries(st.sampled_from(["team", "example.com/note"]), st.sampled_from(["", "x"])),
        "tlsSecretRef": _SECRETS,
    },
).map(lambda ingress: {"ingress": ingress})
_GATEWAYS = st.fixed_dictionaries(
    {"name": st.sampled_from(["web", "own"])},
    optional={"namespace": st.sampled_from(["gateways", "a"]), "sectionName": st.sampled_from(["http", "https"])},
)
_HTTP_ROUTE = st.fixed_dictionaries(
    {
        "host": _HOSTS,
        # Two listeners of one Gateway, or one Gateway as a whole.
        "parentRefs": st.lists(
            _GATEWAYS,
            min_size=1,
            max_size=3,
            unique_by=(lambda gateway: (gateway["name"], gateway.get("namespace"), gateway.get("sectionName"))),
        ).filter(_overlap_nowhere),
    }
).map(lambda route: {"httpRoute": route})
_WAREHOUSES = st.builds(
    lambda place, others: place | others,
    st.sampled_from([{}, _REDSHIFT]),
    st.fixed_dictionaries({}, optional={"every": st.just("1m"), "retention": st.sampled_from(["2d", "72h"])}),
)
_TOPICS = st.fixed_dictionaries(
    {"partitions": st.integers(1, 24), "retention": st.sampled_from(["1h", "168h"])},
    optional={"prefix": st.sampled_from(["desk.majors", "y" * 100]), "replicas": st.integers(1, 3)},
)
_TLS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"tls": {}}, {"tls": {"caSecretRef": {"name": "brokers-ca"}}}]
)


@st.composite
def _on_strimzi(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["none", "tls", "scram-sha-512"]))
    secret = {} if kind == "none" or draw(st.booleans()) else {"secretRef": draw(_SECRETS)}
    cluster = draw(st.sampled_from([{"name": "feeds"}, {"name": "feeds", "namespace": "kafka"}]))
    managed = draw(st.sampled_from([{}, {"topicManagement": "Strimzi"}, {"topicManagement": "Admin"}]))
    return {
        "strimziCluster": cluster,
        "authentication": {"type": kind, **secret},
        "topics": draw(_TOPICS),
        **managed,
        **draw(_TLS),
    }


@st.composite
def _elsewhere(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["none", "tls", "scram-sha-512"]))
    secret = {} if kind == "none" else {"secretRef": draw(_SECRETS)}
    return {
        "bootstrapServers": "b-1:9096,b-2:9096",
        "authentication": {"type": kind, **secret},
        "topics": draw(_TOPICS),
        **draw(_TLS),
    }


_ANALYTICS = st.fixed_dictionaries(
    {
        "windows": st.lists(st.sampled_from(["10s", "1m", "5m"]), min_size=1, unique=True),
        "slide": st.sampled_from(["1s", "2s"]),
        "replicas": st.integers(1, 2),
        "executors": st.integers(1, 9),
        "checkpoint": st.sampled_from(_CHECKPOINTS),
    },
    optional={"watermark": st.sampled_from(["1s", "10m", "1h"])},
)


@st.composite
def _alerts(draw: st.DrawFn, products: list[str], windows: list[str], *, ticker: bool) -> list[dict[str, Any]]:
    measures = [name for name, measure in MEASURES.items() if ticker or not measure.needs_ticker]
    by_measure = st.builds(
        lambda measure, threshold, others: {"measure": measure} | threshold | others,
        st.sampled_from(measures),
        st.builds(lambda side, value: {side: value}, st.sampled_from(["above", "below"]), st.floats(0.001, 0.2)),
        st.fixed_dictionaries({}, optional={"hysteresis": st.floats(0.001, 1)}),
    )
    by_pattern = st.sampled_from(sorted(PATTERNS)).flatmap(
        lambda name: st.fixed_dictionaries(
            {"pattern": st.just(name)}, optional={"thresholds": _thresholds(sorted(PATTERNS[name].thresholds))}
        )
    )
    texts = st.dictionaries(st.sampled_from(["team", "runbook_url"]), st.sampled_from(["", "{{ x }}"]))
    rule = st.builds(
        lambda watched, others: watched | others,
        st.one_of(by_measure, by_pattern),
        st.fixed_dictionaries(
            {"window": st.sampled_from(windows)},
            optional={
                "products": st.lists(st.sampled_from(products), min_size=1, unique=True),
                "for": st.sampled_from(["0s", "1500ms", "2m"]),
                "severity": st.sampled_from(["info", "warning", "critical"]),
                "labels": texts,
                "annotations": texts,
            },
        ),
    )
    return [{"name": f"Alert{number}", **each} for number, each in enumerate(draw(st.lists(rule, max_size=3)))]


def _thresholds(names: list[str]) -> st.SearchStrategy[dict[str, float]]:
    return st.dictionaries(st.sampled_from(names), st.floats(0.001, 0.2), max_size=len(names))
