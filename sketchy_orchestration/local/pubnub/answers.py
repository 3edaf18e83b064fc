"""What the stand-in says: answers, and PubNub's own error bodies.

Bodies marked (recorded) are byte for byte those the real service was seen to send; the others keep its shape.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

JAVASCRIPT = "text/javascript; charset=UTF-8"


class Answer(NamedTuple):
    """One HTTP answer, before any fault touches it."""

    status: int
    body: bytes
    retry_after: float | None = None
    content_type: str = JAVASCRIPT


class RefusalError(Exception):
    """A request the service would refuse; carries the answer to give."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def dumps(value: object) -> bytes:
    """Compact JSON, as the service sends it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def ok(value: object) -> Answer:
    """What PubNub answers to a request that succeeded."""
    return Answer(200, dumps(value))


def refuse(status: int, value: object, retry_after: float | None = None) -> RefusalError:
    """An answer that ends a request; `retry_after` in seconds."""
    return RefusalError(Answer(status, dumps(value), retry_after))


def service_error(status: int, message: str, service: str, **more: Any) -> RefusalError:
    """The shape in which PubNub's newer services refuse."""
    return refuse(status, {"message": message, **more, "error": True, "service": service, "status": status})


def publish_error(text: str, timetoken: int, status: int = 400) -> RefusalError:
    """`[0,"…","<timetoken>"]` (recorded for key, JSON, message size and signal size)."""
    return refuse(status, [0, text, str(timetoken)])


def invalid_subscribe_key() -> RefusalError:
    """(recorded)"""
    return service_error(400, "Invalid Subscribe Key", "Access Manager")


def forbidden(channels: Iterable[str]) -> RefusalError:
    """(recorded)"""
    return service_error(403, "Forbidden", "Access Manager", payload={"channels": list(channels)})


def token_refused(message: str) -> RefusalError:
    """(recorded for "Token is revoked" and "Token is expired.")"""
    return service_error(403, message, "Access Manager")


def history_error(message: str, status: int = 400) -> RefusalError:
    """(recorded for "Invalid Arguments")"""
    body = {"status": status, "error": True, "error_message": message, "channels": {}}
    return refuse(status, body)


def grant_error(source: str, message: str, detail: str, location: str, kind: str = "body") -> RefusalError:
    """(recorded for Invalid ttl, no permissions, wrong content type, expired token)"""
    details = [{"message": detail, "location": location, "locationType": kind}]
    error = {"message": message, "source": source, "details": details}
    return refuse(400, {"error": error, "service": "Access Manager", "status": 400})


def not_found(path: str) -> RefusalError:
    """(recorded for presence paths)"""
    body = {"message": f"Not found: '{path[:200]}'", "error": 1, "service": "Balancer", "status": 404}
    return refuse(404, body)


def unsupported(what: str) -> RefusalError:
    """Left out of the stand-in on purpose; the real service has it."""
    return service_error(400, f"{what} not supported by the local server", "Local PubNub", unsupported=True)


def uri_too_long() -> Answer:
    """(recorded)"""
    body = {"message": "Request URI Too Long", "error": True, "service": "Balancer", "status": 414}
    return Answer(414, dumps(body))


def malformed() -> Answer:
    """(recorded)"""
    body = {"message": "Could Not Parse Request", "error": True, "service": "Access Manager", "status": 400}
    return Answer(400, dumps(body))


def too_many(retry_after: float) -> RefusalError:
    """The answer to more requests than the rate allows; `retry_after` in seconds."""
    body = {"message": "Too Many Requests", "error": True, "service": "Balancer", "status": 429}
    return refuse(429, body, retry_after)
