"""Feeds to test with: those of the examples, and any that the model allows; and a platform that turns all on."""

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fulltape.feed.load import load_feed
from fulltape.feed.model import CryptoFeed
from fulltape.feed.patterns import PATTERNS
from fulltape.measures.names import MEASURES
from fulltape_operator.platform import Platform

_FOLDER = Path(__file__).parents[3] / "examples"
EXAMPLES = sorted(_FOLDER.glob("*.yaml"))
MAJORS, STRIMZI, MSK = (load_feed(_FOLDER / f"{name}.yaml") for name in ("majors", "strimzi", "aws-msk"))

EVERYTHING = Platform(
    image_pull_secrets=("registry",),
    service_account_annotations={"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/feeds"},
    node_selector={"disk": "fast"},
    priority_class_name="market-data",
    pod_monitors=True,
    prometheus_rules=True,
)


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


@st.composite
def feeds(draw: st.DrawFn) -> CryptoFeed:
    """Draw a feed that is valid."""
    products = draw(st.lists(st.sampled_from(_PRODUCTS), min_size=1, unique=True))
    channels = ["matches", *draw(st.sampled_from([[], ["ticker"]]))]
    spec: dict[str, Any] = {
        "products": products,
        "channels": channels,
        "suspend": draw(st.booleans()),
        "retain": draw(st.sampled_from(["Delete", "Retain"])),
        "producer": {"replicas": draw(st.integers(1, len(products)))},
        "kafka": draw(st.one_of(_on_strimzi(), _elsewhere())),
    }
    if draw(st.booleans()):
        spec |= {"analytics": draw(_ANALYTICS), "alertmanagers": draw(st.sampled_from([[], ["http://alerts:9093"]]))}
        spec["alerts"] = draw(_alerts(products, spec["analytics"]["windows"], ticker="ticker" in channels))
    warehouse = draw(st.sampled_from([None, {}, _REDSHIFT]))
    if warehouse is not None:
        spec["warehouse"] = warehouse
    metadata = {"name": draw(FEED_NAMES), "namespace": draw(NAMESPACES)}
    return CryptoFeed.model_validate(
        {"apiVersion": "fulltape.dev/v1alpha1", "kind": "CryptoFeed", "metadata": metadata, "spec": spec}
    )


_TOPICS = st.fixed_dictionaries(
    {"partitions": st.integers(1, 24), "retention": st.sampled_from(["1h", "168h"])},
    optional={"prefix": st.sampled_from(["desk.majors", "y" * 100])},
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
    }
)


@st.composite
def _alerts(draw: st.DrawFn, products: list[str], windows: list[str], *, ticker: bool) -> list[dict[str, Any]]:
    measures = [name for name, measure in MEASURES.items() if ticker or not measure.needs_ticker]
    watched = st.one_of(
        st.sampled_from(sorted(PATTERNS)).map(lambda name: {"pattern": name}),
        st.tuples(st.sampled_from(measures), st.floats(0.001, 0.2)).map(
            lambda drawn: {"measure": drawn[0], "above": drawn[1]}
        ),
    )
    rules = draw(st.lists(watched, max_size=3))
    return [
        {"name": f"Alert{number}", "window": draw(st.sampled_from(windows)), "products": products[:1], **rule}
        for number, rule in enumerate(rules)
    ]
