"""What a fault does to the connection of the request it strikes."""

from __future__ import annotations

import asyncio
import random
import socket
import struct

from aiohttp import web

from sketchy_orchestration.local.pubnub.answers import JAVASCRIPT, Answer, dumps
from sketchy_orchestration.local.pubnub.faults import Fault, FaultKind, Struck
from sketchy_orchestration.local.pubnub.timetoken import TimetokenClock

HANG_SECONDS = 600.0
_LONGEST_TRICKLE = 600.0
_HTML = (
    b"<html>\r\n<head><title>%d %s</title></head>\r\n<body>\r\n<center><h1>%d %s</h1></center>\r\n"
    b"</body>\r\n</html>\r\n"
)


def instead(fault: Fault, operation: str, clock: TimetokenClock) -> Answer | None:
    """The answer a fault gives in place of the real one; None when it breaks the connection itself."""
    match fault.kind:
        case FaultKind.status:
            return Answer(fault.status, fault.body.encode())
        case FaultKind.rate_limited:
            body = {"message": "Too Many Requests", "error": True, "service": "Balancer", "status": 429}
            return Answer(429, dumps(body), fault.retry_after)
        case FaultKind.wrong_key if operation in ("publish", "fire", "signal"):
            return Answer(400, dumps([0, "Invalid Key", str(clock.next())]))
        case FaultKind.wrong_key:
            body = {
                "message": "Invalid Subscribe Key",
                "error": True,
                "service": "Access Manager",
                "status": 400,
            }
            return Answer(400, dumps(body))
        case FaultKind.html:
            text = {502: b"Bad Gateway", 503: b"Service Unavailable"}.get(fault.status, b"Error")
            page = _HTML % (fault.status, text, fault.status, text)
            return Answer(fault.status, page, content_type="text/html")
        case _:
            return None


def reset(request: web.BaseRequest) -> None:
    """Cut the connection with a reset, not with a polite end."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def send_broken(request: web.BaseRequest, answer: Answer, struck: Struck) -> web.StreamResponse:
    """Send the answer truncated, as garbage or byte by byte; reset; or hang."""
    response = web.StreamResponse(
        status=answer.status,
        headers={"Content-Type": JAVASCRIPT, "Access-Control-Allow-Origin": "*"},
    )
    match struck.fault.kind:
        case FaultKind.reset_before | FaultKind.reset_after:
            reset(request)
            return response  # goes nowhere: the connection is gone
        case FaultKind.hang:
            await asyncio.sleep(HANG_SECONDS)
            reset(request)
            return response
        case FaultKind.truncated:
            response.content_length = len(answer.body)
            await response.prepare(request)
            await response.write(answer.body[: max(1, len(answer.body) // 2)])
            if request.transport is not None:
                request.transport.close()
            return response
        case FaultKind.garbage:
            garbage = random.Random(struck.seed).randbytes(len(answer.body))
            response.content_length = len(garbage)
            await response.prepare(request)
            await response.write(garbage)
        case _:
            response.content_length = len(answer.body)
            await response.prepare(request)
            pause = min(struck.delay, _LONGEST_TRICKLE / len(answer.body))
            for index in range(len(answer.body)):
                await response.write(answer.body[index : index + 1])
                await asyncio.sleep(pause)
    await response.write_eof()
    return response
