"""What a feed wants of Kafka: Strimzi's KafkaTopics and a KafkaUser with the least rights, and where Secrets are."""

import hashlib
from typing import Any, Literal

from fulltape.feed.model import CryptoFeed
from fulltape.kafka import topic_specs
from fulltape_operator.desired.child import Child, Manifest, Stage, child_name, manifest

_API = "kafka.strimzi.io/v1"
_CLUSTER_LABEL = "strimzi.io/cluster"


def kafka_children(feed: CryptoFeed) -> list[Child]:
    """Return the topics and the user of a feed on a Strimzi cluster; nothing elsewhere.

    They stand in the cluster's namespace, where Strimzi's operators look.
    """
    found = []
    if feed.spec.kafka.topics_managed_by == "Strimzi":
        found += [Child(Stage.TOPICS, topic, outlives=feed.spec.retain == "Retain") for topic in _topics(feed)]
    if makes_user(feed):
        found.append(Child(Stage.USERS, _user(feed)))
    return found


def makes_user(feed: CryptoFeed) -> bool:
    """Tell whether the feed's KafkaUser is the operator's to make."""
    kafka = feed.spec.kafka
    authentication = kafka.authentication
    return kafka.strimzi_cluster is not None and authentication.type != "none" and authentication.secret_ref is None


def strimzi_namespace(feed: CryptoFeed) -> str:
    """Return the namespace of the feed's Strimzi cluster."""
    cluster = feed.spec.kafka.strimzi_cluster
    assert cluster is not None  # asked of feeds on a Strimzi cluster alone
    return cluster.namespace or feed.metadata.namespace


def user_name(feed: CryptoFeed) -> str:
    """Return the name of the KafkaUser, and so of the Secret that Strimzi makes for it.

    In another namespace feeds of several namespaces meet: there a digest tells them apart.
    """
    name = child_name(feed, "kafka")
    if strimzi_namespace(feed) == feed.metadata.namespace:
        return name
    return f"{name}-{hashlib.sha256(f'{feed.metadata.namespace}/{feed.metadata.name}'.encode()).hexdigest()[:10]}"


def kafka_secrets(feed: CryptoFeed) -> dict[str, str]:
    """Return the Secrets in the feed's namespace that its programs mount: by their folder, ``user`` and ``ca``."""
    kafka = feed.spec.kafka
    found: dict[str, str] = {}
    copied = copied_secrets(feed)
    if kafka.authentication.secret_ref is not None:
        found["user"] = kafka.authentication.secret_ref.name
    elif makes_user(feed):
        found["user"] = child_name(feed, "kafka-user") if copied else user_name(feed)
    if kafka.tls is not None and kafka.tls.ca_secret_ref is not None:
        found["ca"] = kafka.tls.ca_secret_ref.name
    elif kafka.strimzi_cluster is not None:
        found["ca"] = child_name(feed, "kafka-ca") if copied else f"{kafka.strimzi_cluster.name}-cluster-ca-cert"
    return found


def copied_secrets(feed: CryptoFeed) -> dict[str, str]:
    """Return the Secrets that must be copied from the Kafka cluster's namespace into the feed's: copy to original.

    A pod can't mount a Secret of another namespace.
    """
    kafka = feed.spec.kafka
    if kafka.strimzi_cluster is None or strimzi_namespace(feed) == feed.metadata.namespace:
        return {}
    found = {}
    if makes_user(feed):
        found[child_name(feed, "kafka-user")] = user_name(feed)
    if kafka.tls is None or kafka.tls.ca_secret_ref is None:
        found[child_name(feed, "kafka-ca")] = f"{kafka.strimzi_cluster.name}-cluster-ca-cert"
    return found


def required_secrets(feed: CryptoFeed) -> dict[str, str]:
    """Return the Secrets that somebody else must make in the feed's namespace: name to the field that asks for it.

    Of several fields that name the same, the one that most programs read.
    """
    kafka, warehouse = feed.spec.kafka, feed.spec.warehouse
    found = {}
    if warehouse is not None and warehouse.redshift is not None:
        found[warehouse.redshift.secret_ref.name] = "spec.warehouse.redshift.secretRef"
    if kafka.tls is not None and kafka.tls.ca_secret_ref is not None:
        found[kafka.tls.ca_secret_ref.name] = "spec.kafka.tls.caSecretRef"
    if kafka.authentication.secret_ref is not None:
        found[kafka.authentication.secret_ref.name] = "spec.kafka.authentication.secretRef"
    return found


def _topics(feed: CryptoFeed) -> list[Manifest]:
    cluster = feed.spec.kafka.strimzi_cluster
    assert cluster is not None  # the model allows Strimzi's management with one alone
    return [
        manifest(
            _API,
            "KafkaTopic",
            feed,
            "kafka",
            name=topic.name,
            namespace=strimzi_namespace(feed),
            extra_labels={_CLUSTER_LABEL: cluster.name},
            spec={
                "partitions": topic.partitions,
                "replicas": topic.replicas,
                # Strimzi's schema leaves the types open; Kafka takes text for every setting.
                "config": dict(topic.configuration),
            },
        )
        for topic in topic_specs(feed)
    ]


def _user(feed: CryptoFeed) -> Manifest:
    """Return the user of all of a feed's programs: rights on its own topics, transactions and groups, on nothing else.

    Not on all that its prefix begins: the feeds desk and desk.majors may share a Kafka.
    """
    cluster, prefix = feed.spec.kafka.strimzi_cluster, feed.topics.prefix
    assert cluster is not None  # makes_user
    topics = [topic.name for topic in topic_specs(feed)]
    using = ["Describe", "DescribeConfigs", "Read", "Write"]
    making = [*using, "Create", "Delete"]
    managing = making if feed.spec.kafka.topics_managed_by == "Admin" else using
    acls = [_acl("topic", topic, managing) for topic in topics]
    # What Spark's programs warm up with is theirs alone, and lasts for seconds.
    acls.append(_acl("topic", f"{prefix}.panes-", making, pattern="prefix"))
    # A shard's transactions carry its number, and others' numbers while the number of shards changes.
    acls.append(_acl("transactionalId", f"{feed.topics.trades}.", ["Describe", "Write"], pattern="prefix"))
    acls.append(_acl("transactionalId", f"{prefix}.monitor", ["Describe", "Write"]))
    groups = [f"{topic}." for topic in topics] + [f"{prefix}.{program}-" for program in ("panes", "archive")]
    acls += [_acl("group", group, ["Describe", "Read"], pattern="prefix") for group in groups]
    acls += [_acl("group", f"{prefix}.{program}", ["Describe", "Read"]) for program in ("monitor", "dashboard")]
    return manifest(
        _API,
        "KafkaUser",
        feed,
        "kafka",
        name=user_name(feed),
        namespace=strimzi_namespace(feed),
        extra_labels={_CLUSTER_LABEL: cluster.name},
        spec={
            "authentication": {"type": feed.spec.kafka.authentication.type},
            "authorization": {"type": "simple", "acls": acls},
        },
    )


def _acl(
    kind: str, name: str, operations: list[str], pattern: Literal["literal", "prefix"] = "literal"
) -> dict[str, Any]:
    return {
        "resource": {"type": kind, "name": name, "patternType": pattern},
        "operations": sorted(operations),
        "host": "*",
    }
