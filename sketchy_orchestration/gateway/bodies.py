"""Request bodies: bounded in size and time, then read as JSON whatever they claim to be."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, NoReturn, TypeVar

import structlog
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from sketchy_orchestration.gateway.failures import Problem, RequestError

DEEPEST = 32
"""Levels of nesting a body may have."""

Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request, *, limit: int, seconds: float) -> bytes:
    """The whole body.

    Raises:
        RequestError: 413 when it is longer than `limit` bytes, 408 when it takes longer than `seconds`,
            400 when it ends early.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    parts = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                parts += part
                if len(parts) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise RequestError(
            408,
            "body_too_slow",
            f"the body did not arrive within {seconds:g} s",
            headers={"Connection": "close"},
        ) from None
    except ClientDisconnect:
        raise RequestError(400, "body_incomplete", "the body ended early") from None
    return bytes(parts)


def _too_large(limit: int) -> RequestError:
    return RequestError(413, "body_too_large", f"the body is longer than {limit} bytes")


def parse(body: bytes, model: type[Model]) -> Model:
    """The body as JSON of the form `model` describes; what is logged from then on names its game.

    Raises:
        RequestError: 400, naming each field that is wrong.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        raise RequestError(400, "invalid_json", "the body is not JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise RequestError(400, "invalid_json", "the body must be a JSON object")
    _check_storable(value)
    try:
        parsed = model.model_validate(value)
    except ValidationError as error:
        problems = [
            Problem(
                ".".join(str(part) for part in found["loc"]) or "body",
                found["msg"].removeprefix("Value error, "),
            )
            for found in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        named = ", ".join(dict.fromkeys(problem.field for problem in problems))
        raise RequestError(
            400, "invalid_request", f"the request is not valid: {named}", problems=problems
        ) from None
    if (game := getattr(parsed, "game_id", None)) is not None:
        structlog.contextvars.bind_contextvars(game_id=str(game))
    return parsed


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _check_storable(value: Any) -> None:
    """Postgres stores no NUL in text, and half of a surrogate pair is no character."""
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > DEEPEST:
            raise RequestError(400, "invalid_json", f"the body is nested deeper than {DEEPEST} levels")
        if isinstance(item, str):
            if "\x00" in item or (not item.isascii() and any("\ud800" <= c <= "\udfff" for c in item)):
                raise RequestError(400, "invalid_json", "the body holds text that is no Unicode, or a NUL")
        elif isinstance(item, dict):
            waiting += [(each, depth + 1) for each in item]
            waiting += [(each, depth + 1) for each in item.values()]
        elif isinstance(item, list):
            waiting += [(each, depth + 1) for each in item]
