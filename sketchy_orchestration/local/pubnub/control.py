"""The control endpoint, under `/_local/`: statistics, the record, faults. No browser page may use it."""

from __future__ import annotations

from typing import Any

from sketchy_orchestration.local.pubnub.answers import Answer, RefusalError, dumps
from sketchy_orchestration.local.pubnub.calls import Call
from sketchy_orchestration.local.pubnub.config import StandInError
from sketchy_orchestration.local.pubnub.faults import Fault
from sketchy_orchestration.local.pubnub.limits import parse_json
from sketchy_orchestration.local.pubnub.service import Service

PREFIX = "/_local/"
_LONGEST_WAIT = 60
_MOST_ENTRIES = 10_000


async def answer(service: Service, call: Call) -> Answer:
    """`GET stats`, `GET record?after&limit&wait`, `GET|POST|DELETE faults`, `DELETE faults/{number}`."""
    try:
        return await _answer(service, call)
    except StandInError as error:
        return Answer(400, dumps({"error": str(error)}))
    except RefusalError as refusal:
        return refusal.answer


async def _answer(service: Service, call: Call) -> Answer:
    what = call.part(2)
    match (call.method, what):
        case ("GET", "stats"):
            return _ok(service.stats())
        case ("GET", "record"):
            return await _record(service, call)
        case ("GET", "faults"):
            return _ok({"faults": _active(service)})
        case ("POST", "faults"):
            number = service.faults.on(Fault.from_json(_json(call)))
            return _ok({"number": number, "faults": _active(service)})
        case ("DELETE", "faults"):
            number_text = call.part(3)
            if number_text and not number_text.isdecimal():
                raise StandInError(f"{number_text!r} is not a fault's number")
            off = service.faults.off(int(number_text) if number_text else None)
            return _ok({"off": off, "faults": _active(service)})
        case _:
            return Answer(404, dumps({"error": "use stats, record or faults"}))


async def _record(service: Service, call: Call) -> Answer:
    after = _number(call, "after", 0)
    limit = min(_number(call, "limit", 1000), _MOST_ENTRIES)
    wait = min(_number(call, "wait", 0), _LONGEST_WAIT)
    if wait:
        await service.record.wait_beyond(after, wait)
    entries = [entry.as_json() for entry in service.record.since(after, limit)]
    body = {"count": service.record.count, "dropped": service.record.dropped, "entries": entries}
    return _ok(body)


def _number(call: Call, name: str, default: int) -> int:
    raw = call.value(name)
    if raw is None:
        return default
    if not (raw.isascii() and raw.isdigit() and len(raw) < 16):
        raise StandInError(f"{name} is {raw!r}: must be a whole number")
    return int(raw)


def _json(call: Call) -> object:
    # Only a page of this very server could send this type without being asked first, and it serves none.
    if call.media_type.partition(";")[0].strip() != "application/json":
        raise StandInError("send Content-Type: application/json")
    try:
        return parse_json(call.body)
    except ValueError:
        raise StandInError("the body is not JSON") from None


def _active(service: Service) -> list[dict[str, Any]]:
    return [
        {"number": number, "struck": struck, **fault.as_json()}
        for number, fault, struck in service.faults.active()
    ]


def _ok(value: object) -> Answer:
    return Answer(200, dumps(value), content_type="application/json")
