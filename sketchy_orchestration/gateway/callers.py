"""Who calls: the service role, the cron, or a player."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import SecretStr
from starlette.requests import Request

from sketchy_orchestration.gateway.failures import unauthorized


class Kind(StrEnum):
    """What a caller may be."""

    service = "service"
    cron = "cron"
    player = "player"
    stranger = "stranger"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever showed valid credentials; `name` tells one player from another."""

    kind: Kind
    name: str


class Secrets:
    """Shared secrets that are valid now: the current one and, during a rotation, the previous one."""

    def __init__(self, *given: SecretStr | None) -> None:
        self._valid = [secret.get_secret_value().encode() for secret in given if secret is not None]

    def __bool__(self) -> bool:
        return bool(self._valid)

    def __contains__(self, shown: str) -> bool:
        """In constant time: every secret is compared, whatever the one before said."""
        told = shown.encode(errors="replace")
        matches = [hmac.compare_digest(told, valid) for valid in self._valid]
        return any(matches)

    def values(self) -> Sequence[str]:
        """The secrets themselves, for a library that verifies with them."""
        return [valid.decode() for valid in self._valid]


def bearer(request: Request) -> str:
    """The bearer token.

    Raises:
        RequestError: 401, there is none.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthorized("a bearer token is needed in the header Authorization")
    return token.strip()


def service(request: Request, keys: Secrets) -> Caller:
    """The service role, by its bearer token; 401 otherwise."""
    if bearer(request) not in keys:
        raise unauthorized("the bearer token is not the service role key")
    return Caller(Kind.service, "service")


def cron(request: Request, secrets: Secrets) -> Caller:
    """The cron, by its x-cron-secret; 401 otherwise."""
    shown = request.headers.get("x-cron-secret", "")
    if shown not in secrets:
        raise unauthorized("the header x-cron-secret is missing or wrong", scheme=None)
    return Caller(Kind.cron, "cron")
