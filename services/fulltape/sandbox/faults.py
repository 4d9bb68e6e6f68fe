"""Faults on command: what goes wrong, how often, to which frames. Decisions only; the exchange carries them out.

A fault is one JSON object, told apart by ``fault``, at the admin endpoint; the command line's ``--fault`` takes the
same fields as ``drop,probability=0.01,product=BTC-USD``. Faults of frames touch matches alone, and a trade whose frame
was dropped or spoiled is still in the REST history.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from fulltape.errors import ConfigurationError
from fulltape.sandbox.frames import payload_of, text_frame

Scope = Literal["feed", "connection"]
"""A fault of the feed is the same for all clients; of a connection, each client has its own luck."""


class FrameFault(msgspec.Struct, tag_field="fault", forbid_unknown_fields=True):
    """A fault of single match frames, each by chance, or the next few; one of the two is to be said."""

    probability: float | None = None
    """Chance of each frame to be struck, 0 to 1, until the fault is cleared."""
    next: int | None = None
    """Strike the next so many frames and be gone."""
    product: str | None = None
    """Only frames of this product."""
    scope: Scope = "feed"


class Drop(FrameFault, tag="drop"):
    """The frame is not sent."""


class Repeat(FrameFault, tag="repeat"):
    """The frame is sent twice."""


class Reorder(FrameFault, tag="reorder"):
    """The frame is sent after one to four later ones of its product."""


class Garbage(FrameFault, tag="garbage"):
    """The frame's JSON is cut short or replaced by noise."""


class Malformed(FrameFault, tag="malformed"):
    """The match lacks a field, or a field is of a wrong type or an impossible value."""


class Close(msgspec.Struct, tag="close", tag_field="fault", forbid_unknown_fields=True):
    """Connections end at once, without a close frame; the oldest first."""

    connections: int | None = None
    """How many; all when absent."""


class Stall(msgspec.Struct, tag="stall", tag_field="fault", forbid_unknown_fields=True):
    """Connections stay open and nothing comes, neither messages nor pongs; what they miss is never sent."""

    seconds: float
    connections: int | None = None
    """How many, the oldest first; all when absent."""


class RefuseRest(msgspec.Struct, tag="refuse_rest", tag_field="fault", forbid_unknown_fields=True):
    """REST answers 503."""

    seconds: float | None = None
    """For how long; until cleared when absent."""


class SlowRest(msgspec.Struct, tag="slow_rest", tag_field="fault", forbid_unknown_fields=True):
    """REST answers late."""

    delay_seconds: float
    seconds: float | None = None
    """For how long; until cleared when absent."""


Fault = Drop | Repeat | Reorder | Garbage | Malformed | Close | Stall | RefuseRest | SlowRest


def parse_faults(raw: bytes) -> list[Fault]:
    """Read one fault or a list of them from JSON.

    Raises:
        ConfigurationError: not JSON, no such fault, or a field that is unknown, missing or of a wrong type.

    """
    try:
        return [check_fault(fault) for fault in _as_list(msgspec.json.decode(raw, type=Fault | list[Fault]))]
    except msgspec.DecodeError as problem:
        raise ConfigurationError(f"not a fault: {problem}; {_GRAMMAR}") from None


def parse_fault_option(text: str) -> Fault:
    """Read a fault from the command line: its name, then ``field=value`` pairs, separated by commas.

    Raises:
        ConfigurationError: no such fault, or a field that is unknown, missing or of a wrong type.

    """
    name, *pairs = text.split(",")
    fields = dict(pair.partition("=")[::2] for pair in pairs)
    try:
        return check_fault(msgspec.convert({"fault": name, **fields}, type=Fault, strict=False))
    except msgspec.ValidationError as problem:
        raise ConfigurationError(f"--fault {text}: {problem}; {_GRAMMAR}") from None


_GRAMMAR = (
    "there are drop, repeat, reorder, garbage, malformed (probability or next; product, scope), close (connections), "
    "stall (seconds, connections), refuse_rest (seconds), slow_rest (delay_seconds, seconds)"
)


def _as_list(faults: "Fault | list[Fault]") -> list[Fault]:
    return faults if isinstance(faults, list) else [faults]


def check_fault(fault: Fault) -> Fault:
    """Hold a fault to what its types can't say; return it.

    Raises:
        ConfigurationError: neither or both of ``probability`` and ``next``, or a number out of range.

    """
    if isinstance(fault, FrameFault):
        if (fault.probability is None) == (fault.next is None):
            raise ConfigurationError("a fault of frames has either a probability or a number of next frames")
        if fault.probability is not None and not 0 <= fault.probability <= 1:
            raise ConfigurationError(f"a probability of {fault.probability:g} is not possible; choose from 0 to 1")
    numbers = {name: getattr(fault, name, None) for name in ("next", "connections", "seconds", "delay_seconds")}
    for name, value in numbers.items():
        if value is not None and value <= 0:
            raise ConfigurationError(f"{name} must be above 0, not {value:g}")
    return fault


class Frame(NamedTuple):
    """One message on its way."""

    product: str
    data: bytes | memoryview
    """A WebSocket frame."""
    is_match: bool
    """Otherwise a ticker."""


class FrameFaults:
    """Strikes the frames of one feed, or of one connection; ``rules`` is shared and spent together.

    Args:
        rules: the faults in force; those with no ``next`` left are removed.
        scope: strike by the rules of this scope alone.
        struck: counts what was done, by the fault's name.
        seed: of the chances.

    """

    def __init__(self, rules: list[FrameFault], scope: Scope, struck: Counter[str], seed: int) -> None:
        self._rules = rules
        self._scope = scope
        self._struck = struck
        self._random = np.random.default_rng(seed)
        self._held: list[tuple[int, Frame]] = []

    @property
    def active(self) -> bool:
        """Whether frames have to pass through `apply`: there is a rule, or a frame held back by one."""
        return bool(self._held) or any(rule.scope == self._scope for rule in self._rules)

    def apply(self, frames: Sequence[Frame]) -> list[Frame]:
        """Return the frames that are to be sent in place of these."""
        sent: list[Frame] = []
        for frame in frames:
            rule = self._rule_that_strikes(frame) if frame.is_match else None
            match rule:
                case None:
                    sent.append(frame)
                case Drop():
                    pass
                case Repeat():
                    sent += [frame, frame]
                case Reorder():
                    self._held.append((int(self._random.integers(1, 5)), frame))
                    continue
                case Garbage():
                    sent.append(frame._replace(data=text_frame(self._noise(payload_of(frame.data)))))
                case _:
                    sent.append(frame._replace(data=text_frame(self._misshape(payload_of(frame.data)))))
            if frame.is_match and self._held:
                self._release(frame.product, sent)
        return sent

    def _rule_that_strikes(self, frame: Frame) -> FrameFault | None:
        for rule in self._rules:
            if rule.scope != self._scope or rule.product not in {None, frame.product}:
                continue
            if rule.next is not None:
                rule.next -= 1
                if not rule.next:
                    self._rules.remove(rule)
            elif not self._random.random() < (rule.probability or 0):
                continue
            self._struck[type(rule).__name__.lower()] += 1
            return rule
        return None

    def _release(self, product: str, sent: list[Frame]) -> None:
        waiting = self._held
        self._held = []
        for passes, frame in waiting:
            left = passes - (frame.product == product)
            if left:
                self._held.append((left, frame))
            else:
                sent.append(frame)

    def _noise(self, payload: bytes) -> bytes:
        if self._random.random() < 0.5:
            return payload[: int(self._random.integers(1, len(payload)))]
        # No JSON begins so; without it noise between two quotes would be some.
        return b"~" + bytes(self._random.integers(0x20, 0x7F, 40).tolist())

    def _misshape(self, payload: bytes) -> bytes:
        message = json.loads(payload)
        name = str(self._random.choice(["trade_id", "price", "size", "side", "product_id", "time"]))
        values: list[object] = [None, True, [], {"value": message[name]}, "", -1]
        if self._random.random() < 0.5:
            del message[name]
        else:
            message[name] = values[int(self._random.integers(len(values)))]
        return json.dumps(message, separators=(",", ":")).encode()
