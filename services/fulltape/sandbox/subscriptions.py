"""What clients ask for on the WebSocket, checked as Coinbase checks it, and the answers. Pure."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

CHANNELS = ("matches", "ticker", "heartbeat")

SUBSCRIPTIONS_PER_PRODUCT = 10
"""As many connections of one IP address may have the same channel of the same product."""

_AUTHENTICATED = {"level2", "level3", "full", "user"}

Subscription = tuple[str, str]
"""Channel and product."""


class RefusedError(Exception):
    """A request that can't be carried out; `message` and `reason` go to the client."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, reason)
        self.message = message
        self.reason = reason


@dataclass(slots=True)
class Request:
    """A subscribe or an unsubscribe, with what in it can't be granted."""

    subscribe: bool
    wanted: list[Subscription] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    """A reason for each channel or product that there isn't."""


def parse_request(text: str | bytes, product_ids: frozenset[str]) -> Request:
    """Read a client's message.

    Channels are names, with the products listed once for all, or objects ``{"name": ..., "product_ids": [...]}``. One
    bad product or channel is refused alone; the others are granted.

    Raises:
        RefusedError: not JSON, not a subscribe or unsubscribe, or no channels.

    """
    try:
        message = msgspec.json.decode(text)
    except msgspec.DecodeError as problem:
        raise RefusedError("Malformed JSON", str(problem)) from None
    kind = message.get("type") if isinstance(message, dict) else None
    if not isinstance(kind, str) or kind not in {"subscribe", "unsubscribe"}:
        raise RefusedError("Failed to subscribe", "Type has to be either subscribe or unsubscribe")
    channels = message.get("channels")
    if not isinstance(channels, list) or not channels:
        raise RefusedError("Failed to subscribe", "No channels provided")
    request = Request(subscribe=kind == "subscribe")
    for channel in channels:
        _read_channel(channel, message.get("product_ids"), product_ids, request)
    return request


def _read_channel(channel: Any, common_ids: Any, product_ids: frozenset[str], request: Request) -> None:
    named = channel if isinstance(channel, dict) else {"name": channel}
    name = named.get("name")
    if name in CHANNELS:
        ids = named.get("product_ids", common_ids)
        if isinstance(ids, list) and ids:
            for product_id in ids:
                if isinstance(product_id, str) and product_id in product_ids:
                    request.wanted.append((name, product_id))
                else:
                    request.refusals.append(f"{product_id} is not a valid product")
        elif request.subscribe:
            request.refusals.append("No products provided")
        else:  # to unsubscribe from a channel as such is to drop all its products
            request.wanted.extend((name, product_id) for product_id in sorted(product_ids))
    elif isinstance(name, str) and name in _AUTHENTICATED:
        request.refusals.append("level2, level3, and full channels now require authentication.")
    else:
        request.refusals.append(f"{name} is not a valid channel")


def error_message(message: str, reason: str) -> bytes:
    """Return Coinbase's error message."""
    return msgspec.json.encode({"type": "error", "message": message, "reason": reason})


def subscriptions_message(subscriptions: set[Subscription]) -> bytes:
    """Return the answer to a request that was granted: all that the connection now receives."""
    channels = [
        {"name": name, "product_ids": sorted(product for channel, product in subscriptions if channel == name)}
        for name in CHANNELS
    ]
    listed = [{**channel, "account_ids": None} for channel in channels if channel["product_ids"]]
    return msgspec.json.encode({"type": "subscriptions", "channels": listed})
