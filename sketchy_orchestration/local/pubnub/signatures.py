"""Request signatures, versions 1 and 2, as the official SDKs make them."""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

from sketchy_orchestration.local.pubnub.answers import service_error
from sketchy_orchestration.local.pubnub.calls import Call

TIMESTAMP_WINDOW_SECONDS = 60


def _sign(secret: str, text: bytes) -> str:
    return urlsafe_b64encode(hmac.digest(secret.encode(), text, "sha256")).decode()


def _canonical_query(call: Call) -> str:
    """Sorted, every value encoded anew: SDKs sign some values before they encode them for the wire."""
    pairs = []
    for name in sorted(call.query):
        if name != "signature":
            value = unquote(call.query[name], errors="surrogateescape")
            encoded = quote(value, safe="", errors="surrogateescape").replace("~", "%7E")
            pairs.append(f"{name}={encoded}")
    return "&".join(pairs)


def _texts_v2(call: Call, publish_key: str) -> Iterator[bytes]:
    query = _canonical_query(call)
    yield f"{call.method}\n{publish_key}\n{call.path}\n{query}\n".encode() + call.body
    if call.parts[1] == "publish" and call.method == "POST":
        # The JavaScript SDK signs POST publishes as if they were GETs, without the body.
        yield f"GET\n{publish_key}\n{call.path}\n{query}\n".encode()


def signed_with(
    call: Call, *, publish_key: str, subscribe_key: str, secret_keys: Iterable[str]
) -> str | None:
    """Which of the secret keys the request is signed with; None when it carries no signature.

    Raises:
        RefusalError: the signature is wrong (403) or its timestamp is too far off (400).
    """
    given = call.value("signature")
    if given is None:
        return None
    timestamp = call.number("timestamp", 0) or 0
    if abs(time.time() - timestamp) > TIMESTAMP_WINDOW_SECONDS:
        raise service_error(400, "Invalid Timestamp", "Access Manager")
    if given.startswith("v2."):
        texts = list(_texts_v2(call, publish_key))
    else:
        texts = [f"{subscribe_key}\n{publish_key}\n{call.path}\n{_canonical_query(call)}".encode()]
    found = None
    for secret in secret_keys:
        for text in texts:
            wanted = _sign(secret, text)
            if given.startswith("v2."):
                wanted = "v2." + wanted.rstrip("=")
            if hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode()):
                found = secret
    if found is None:
        raise service_error(403, "Signature does not match", "Access Manager")
    return found
