"""One feed in a cluster, as the person who applied it sees it."""

import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from urllib3.exceptions import HTTPError

from fulltape.feed.duration import Duration
from fulltape.readings import Sample, samples
from fulltape.workloads import METRICS
from fulltape_operator.readings import PORT
from tests.cluster.demo import DATA_NAMESPACE, MANIFESTS, make_namespace
from tests.cluster.jobs import BOOTSTRAP_SERVERS, FILES, run_job
from tests.control_plane.plane import Cluster, KubectlError

_log = logging.getLogger(__name__)
_CHECK = Path(__file__).with_name("check_windows.py")
PATIENCE_SECONDS = 240.0
"""Nothing here is timed: this only ends a test that waits for what will never be."""
_NOTICED_SECONDS = 2.0
_BATCH, _RECORDS = "fulltape_panes_batch", "fulltape_panes_records_total"


class Feed:
    """A feed.

    Args:
        cluster: where it is.
        name: its name.
        namespace: its namespace.

    """

    def __init__(self, cluster: Cluster, name: str, namespace: str) -> None:
        self.cluster = cluster
        self.name = name
        self.namespace = namespace
        # For what is asked again and again: each kubectl would take half a second of CPU from the programs of the feed.
        api = config.new_client_from_config(str(cluster.kubeconfig))
        self._core, self._custom = client.CoreV1Api(api), client.CustomObjectsApi(api)
        self._first_windows: Collection[str] = ()

    def apply(self, **spec: Any) -> None:
        """Make or change it: the feed of the manifests with other fields of its spec."""
        make_namespace(self.cluster, self.namespace)
        manifest = yaml.safe_load((MANIFESTS / "feed.yaml").read_text())
        manifest["metadata"] |= {"name": self.name, "namespace": self.namespace}
        manifest["spec"] |= spec
        self._first_windows = (manifest["spec"]["analytics"] or {}).get("windows", ())
        self.cluster.kubectl("apply", "--filename=-", input=yaml.safe_dump(manifest))

    def patch(self, spec: Mapping[str, Any]) -> None:
        """Change fields of its spec."""
        self._kubectl("patch", f"cryptofeed/{self.name}", "--type=merge", f"--patch={json.dumps({'spec': spec})}")

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Make room: two cores are too few for the streams of two feeds."""
        self.patch({"suspend": True})
        self.wait_until(lambda: not self.pods(), "its pods to end")
        yield
        self.patch({"suspend": False})
        self.wait_ready()

    def live(self) -> dict[str, Any]:
        """Return it as the API server has it."""
        return dict(
            self._custom.get_namespaced_custom_object(
                "fulltape.dev", "v1alpha1", self.namespace, "cryptofeeds", self.name
            )
        )

    def pods(self, component: str | None = None) -> list[dict[str, Any]]:
        """Return its pods, or those of one component, that are not being deleted."""
        return self._pods(self.namespace, self._selector(component))

    def condition(self, kind: str) -> Mapping[str, Any]:
        """Return one of its conditions; it has it already."""
        return next(one for one in self.live()["status"]["conditions"] if one["type"] == kind)

    def delete_pod(self, name: str) -> None:
        """Delete a pod, as a node that is drained does; a moment later it may be gone already."""
        with suppress(client.ApiException):
            self._core.delete_namespaced_pod(name, self.namespace)

    def evict(self, name: str) -> bool:
        """Evict a pod; tell whether that may be now, by its disruption budget."""
        eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=name, namespace=self.namespace))
        try:
            self._core.create_namespaced_pod_eviction(name, self.namespace, eviction)
        except client.ApiException as error:
            if error.status == 429:
                return False
            if error.status != 404:
                raise
        return True

    def wait_ready(self, since: datetime | None = None) -> None:
        """Wait until it is ready in its present form, and trades flow. How long that took is logged.

        Args:
            since: of each product a trade that is later than this must have come, and a little more, in which the
                operator sees what was just done; by default later than this call.

        """
        moment = (since or datetime.now(UTC)) + timedelta(seconds=_NOTICED_SECONDS)

        def ready() -> bool:
            live = self.live()
            conditions = {one["type"]: one for one in live.get("status", {}).get("conditions", ())}
            return (
                "Ready" in conditions
                and conditions["Ready"]["status"] == "True"
                and conditions["Ready"]["observedGeneration"] == live["metadata"]["generation"]
                and all(is_ready(pod) for pod in self.pods())
                and all(time > moment for time in self.last_trades(live["spec"]["products"]).values())
            )

        began = time.monotonic()
        self.wait_until(ready, f"{self.name} to be ready, with trades later than {moment:%X}")
        _log.info("%s was ready after %.0f s", self.name, time.monotonic() - began)

    def last_trades(self, products: Collection[str]) -> dict[str, datetime]:
        """Return when each product was last traded, as its producers say now; the status says it by the minute."""
        times = dict.fromkeys(products, datetime.min.replace(tzinfo=UTC))
        for pod in self.pods("producer"):
            for sample in self._samples(pod, "fulltape_last_trade_timestamp_seconds"):
                times[sample.labels["product"]] = datetime.fromtimestamp(sample.value, UTC)
        return times

    def wait_batch(self, after: int = -1) -> int:
        """Wait until its stream has kept what it did in a batch of a higher number; return that number."""
        batch = after

        def is_kept() -> bool:
            nonlocal batch
            (driver,) = self.pods("panes")
            found = {name: [one.value for one in self._samples(driver, name)] for name in (_BATCH, _RECORDS)}
            batch = int(found[_BATCH][0]) if sum(found[_RECORDS]) else -1  # before any batch it says 0 too
            return batch > after

        self.wait_until(is_kept, f"a batch of a number above {after}")
        return batch

    @contextmanager
    def going_on_from_checkpoint(self) -> Iterator[None]:
        """See that another driver, which the context brings, goes on from what the one before had kept."""
        batch = self.wait_batch()
        yield
        self.wait_batch(batch)
        driver = self.pods("panes")[0]["metadata"]["name"]
        said = self._kubectl("logs", driver)
        assert "continuing from the checkpoint in" in said, said
        assert "set aside" not in said, said

    def lives(self, component: str | None = None) -> dict[str, int]:
        """Return how often each pod, or each of one component, was started anew, by its UID."""
        return {
            pod["metadata"]["uid"]: sum(one["restartCount"] for one in pod["status"].get("containerStatuses", ()))
            for pod in self.pods(component)
        }

    def replacing(self, component: str) -> AbstractContextManager[str]:
        """Give the name of a pod of a component, which the context ends; wait until another is ready in its place."""
        return self.replacing_beside(self.namespace, self._selector(component))

    @contextmanager
    def replacing_beside(self, namespace: str, selector: str) -> Iterator[str]:
        """Do the same with a pod that labels name, of whatever else is in the cluster."""
        before = self._pods(namespace, selector)
        old = before[0]["metadata"]
        yield old["name"]

        def is_replaced() -> bool:
            now = self._pods(namespace, selector)
            others = [pod for pod in now if is_ready(pod) and pod["metadata"]["uid"] != old["uid"]]
            return len(before) == len(now) == len(others)

        began = time.monotonic()
        self.wait_until(is_replaced, f"another pod of {selector}")
        _log.info("%s was replaced after %.0f s", old["name"], time.monotonic() - began)

    def assert_right(self) -> None:
        """Read the whole tape and all windows, in a pod: every trade is there once and in order, and in its windows.

        Of a feed that is new it is waited for the first windows.

        Raises:
            AssertionError: something is missing, twice or wrong; says what.

        """
        self.wait_until(self._has_windows_that_are_right, "windows to compare")

    def _has_windows_that_are_right(self) -> bool:
        """Compare all; tell whether there were windows, where the feed has any."""
        programs = {
            "audit": ["fulltape", "audit", f"{self.name}.trades", f"--bootstrap-servers={BOOTSTRAP_SERVERS}", "--json"]
        }
        if lengths := self._window_seconds():
            programs["windows"] = ["python3", f"{FILES}/{_CHECK.name}", self.name, BOOTSTRAP_SERVERS, *lengths]
        said = run_job(self.cluster, programs, PATIENCE_SECONDS, {_CHECK.name: _CHECK.read_text()})
        assert_complete(said["audit"], self.live()["spec"]["products"])
        if "windows" not in said:
            return True
        windows = json.loads(said["windows"].splitlines()[-1])
        assert (windows["absent"], windows["wrong"]) == (0, 0), f"{windows}\n{self._monitor_said()}"
        return bool(windows["windows"])

    def ask(self, service: str, path: str) -> Any:
        """Return what a Service beside Kafka answers, as JSON says it.

        Args:
            service: its name and port, as ``prometheus:9090``.
            path: what is asked for.

        """
        place = f"/api/v1/namespaces/{DATA_NAMESPACE}/services/{service}/proxy/{path}"
        return json.loads(self.cluster.kubectl("get", "--raw", place))

    def alerts(self, name: str) -> list[dict[str, str]]:
        """Return the labels of its alerts of a name that Alertmanager has."""
        found = [alert["labels"] for alert in self.ask("alertmanager:9093", "api/v2/alerts")]
        place = {"alertname": name, "feed": self.name, "namespace": self.namespace}
        return [labels for labels in found if place.items() <= labels.items()]

    def _samples(self, pod: Mapping[str, Any], metric: str) -> list[Sample]:
        """Return what a pod says of a metric now."""
        place = f"{pod['metadata']['name']}:{PORT}"
        answer = self._core.connect_get_namespaced_pod_proxy_with_path(
            place, self.namespace, METRICS.removeprefix("/"), _preload_content=False
        )
        return list(samples(answer.data.decode(), {metric}))

    def _selector(self, component: str | None) -> str:
        feed = f"fulltape.dev/feed={self.name}"
        return feed if component is None else f"{feed},app.kubernetes.io/component={component}"

    def _pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        answer = self._core.list_namespaced_pod(namespace, label_selector=selector, _preload_content=False)
        found = json.loads(answer.data)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def _window_seconds(self) -> list[str]:
        """Return the lengths of its windows, with a plus behind those that it was given later."""
        analytics = self.live()["spec"].get("analytics") or {}
        windows = {window: Duration(window).us // 1_000_000 for window in analytics.get("windows", ())}
        return [f"{seconds}" if window in self._first_windows else f"{seconds}+" for window, seconds in windows.items()]

    def _monitor_said(self) -> str:
        return self._kubectl("logs", f"--selector={self._selector('monitor')}", "--tail=30")

    def wait_until(self, condition: Callable[[], bool], what: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for a condition; the API server may be away meanwhile.

        Raises:
            AssertionError: it did not come; says how the feed and its pods stand.

        """
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                if condition():
                    return
            except (KubectlError, client.ApiException, HTTPError) as error:
                said = str(error)
            else:
                said = ""
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {patience_seconds:g} s for {what}; {said}\n{self._how_it_stands()}")
            time.sleep(0.5)

    def _how_it_stands(self) -> str:
        pods = self.cluster.kubectl("get", "pods", "--all-namespaces")
        events = self._kubectl("get", "events", "--sort-by=.lastTimestamp")
        status = yaml.safe_dump(self.live().get("status"))
        return f"{status}\n{pods}\n{events[-4000:]}"

    def _kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl(*arguments, f"--namespace={self.namespace}")


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod says that it is ready."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))


def assert_complete(said: str, products: Collection[str]) -> None:
    """Read what an audit of a tape printed: every trade of the products is there once and in order, and nothing else.

    Raises:
        AssertionError: something is missing, twice or wrong; says what.

    """
    found = json.loads(said)
    assert found["foreign"] == 0
    assert {product["product"] for product in found["products"]} == set(products)
    for product in found["products"]:
        wrong = {key: product[key] for key in ("missing", "duplicates", "out_of_order", "gap_records")}
        assert wrong == dict.fromkeys(wrong, 0), product
        assert product["trades"] == product["last_id"] - product["first_id"] + 1
