"""Access Manager v3: who may do what, and the grant and revoke calls."""

from __future__ import annotations

import re
import time
from typing import Any

from sketchy_orchestration.local.pubnub import signatures, tokens
from sketchy_orchestration.local.pubnub.answers import (
    Answer,
    forbidden,
    grant_error,
    invalid_subscribe_key,
    ok,
    service_error,
    token_refused,
)
from sketchy_orchestration.local.pubnub.calls import Call
from sketchy_orchestration.local.pubnub.config import StandInConfig
from sketchy_orchestration.local.pubnub.limits import GRANT_MINUTES, parse_json

_KINDS = ("channels", "groups", "uuids", "spaces", "users")
_CACHED_TOKENS = 4096


class Access:
    """Decides whether a call may be made."""

    def __init__(self, config: StandInConfig) -> None:
        self._config = config
        self._secrets: tuple[str, ...] = (config.secret_key,) if config.secret_key is not None else ()
        self._revoked: dict[str, int] = {}
        self._read: dict[str, tokens.Token] = {}

    def accept(self, *secret_keys: str) -> None:
        """From now on these secret keys are valid and no other, nor what was granted with another."""
        self._secrets = secret_keys
        self._read.clear()

    def check(self, call: Call, channels: list[str], permission: int) -> None:
        """Let the call pass if its signature or token allows it on every channel; permission 0 needs neither.

        Raises:
            RefusalError: a wrong signature, always; a missing permission, when access is enforced.
        """
        if not self._secrets:
            return
        if self._signed_with(call) or not self._config.enforce_access or not permission:
            return
        given = call.value("auth")
        if given is None:
            raise forbidden(channels)
        token = self._token(given)
        if token.user_id is not None and token.user_id != call.value("uuid"):
            raise forbidden(channels)
        denied = [name for name in channels if not token.allows(name, permission)]
        if denied:
            raise forbidden(denied)

    def check_signed(self, call: Call) -> None:
        """For what no token allows: only a signature with the secret key will do, when access is enforced."""
        if self._secrets and not self._signed_with(call) and self._config.enforce_access:
            raise forbidden([])

    def _signed_with(self, call: Call) -> str | None:
        config = self._config
        return signatures.signed_with(
            call,
            publish_key=config.publish_key,
            subscribe_key=config.subscribe_key,
            secret_keys=self._secrets,
        )

    def _issued(self, given: str) -> tokens.Token | None:
        """The token, if one of the secret keys issued it."""
        return next((token for secret in self._secrets if (token := tokens.read(secret, given))), None)

    def _token(self, given: str) -> tokens.Token:
        token = self._read.get(given)
        if token is None:
            token = self._issued(given)
            if token is None:
                raise token_refused("Invalid token signature")
            if len(self._read) >= _CACHED_TOKENS:
                self._read.clear()
            self._read[given] = token
        if given.rstrip("=") in self._revoked:
            raise token_refused("Token is revoked")
        if token.expires <= time.time():
            raise token_refused("Token is expired.")
        return token

    def grant(self, call: Call) -> Answer:
        """`POST /v3/pam/{subscribe key}/grant`"""
        secret = self._needs_secret(call)
        if call.media_type.partition(";")[0].strip() != "application/json":
            raise _invalid_json("Content-Type must be `application/json`.")
        try:
            body = parse_json(call.body)
        except ValueError:
            raise _invalid_json("Body is not JSON.") from None
        if not isinstance(body, dict) or not isinstance(body.get("permissions"), dict):
            raise _invalid_json("An object with `permissions` is needed.")
        minutes = body.get("ttl")
        if type(minutes) is not int or not 1 <= minutes <= GRANT_MINUTES:
            detail = f"Range should be 1 to {GRANT_MINUTES} minute(s)."
            raise grant_error("grant", "Invalid ttl", detail, "ttl")
        permissions: dict[str, Any] = body["permissions"]
        resources = _section(permissions, "resources")
        patterns = _section(permissions, "patterns")
        if not any(
            bits for granted in (resources, patterns) for kind in granted.values() for bits in kind.values()
        ):
            raise grant_error(
                "grant", "This grant contains no permissions", "What are you granting?", "permissions"
            )
        for pattern in [*patterns.get("channels", {}), *patterns.get("spaces", {})]:
            try:
                re.compile(pattern)
            except re.error:
                raise grant_error(
                    "grant", "Invalid RegExp", "Not a regular expression.", "permissions.patterns"
                ) from None
        token = tokens.issue(
            secret,
            now=int(time.time()),
            minutes=minutes,
            resources=resources,
            patterns=patterns,
            meta=_meta(permissions),
            user_id=_user_id(permissions),
        )
        return ok(
            {"data": {"message": "Success", "token": token}, "service": "Access Manager", "status": 200}
        )

    def revoke(self, call: Call) -> Answer:
        """`DELETE /v3/pam/{subscribe key}/grant/{token}`"""
        self._needs_secret(call)
        given = call.part(5)
        token = self._issued(given)
        if token is None:
            raise grant_error("revoke", "Invalid token", "Token is not valid.", "token", "path")
        now = time.time()
        if token.expires <= now:
            raise grant_error("revoke", "Invalid token", "Token is expired.", "token", "path")
        self._revoked = {known: expires for known, expires in self._revoked.items() if expires > now}
        self._revoked[given.rstrip("=")] = token.expires
        return ok({"data": {"message": "Success"}, "service": "Access Manager", "status": 200})

    def _needs_secret(self, call: Call) -> str:
        if call.part(3) != self._config.subscribe_key:
            raise invalid_subscribe_key()
        if not self._secrets:
            raise service_error(403, "Access Manager is not enabled for this keyset", "Access Manager")
        secret = self._signed_with(call)
        if secret is None:
            raise service_error(403, "Signature does not match", "Access Manager")
        return secret


def _invalid_json(detail: str) -> Exception:
    return grant_error("grant", "Invalid JSON", detail, "<root>")


def _section(permissions: dict[str, Any], name: str) -> dict[str, dict[str, int]]:
    section = permissions.get(name, {})
    if not isinstance(section, dict):
        raise grant_error("grant", f"Invalid {name}", "An object is needed.", f"permissions.{name}")
    kinds: dict[str, dict[str, int]] = {}
    for kind in _KINDS:
        granted = section.get(kind, {})
        valid = isinstance(granted, dict) and all(
            type(bits) is int and 0 <= bits <= 255 for bits in granted.values()
        )
        if not valid:
            where = f"permissions.{name}.{kind}"
            raise grant_error("grant", "Invalid permissions", "Bits from 0 to 255 are needed.", where)
        kinds[kind] = granted
    return kinds


def _meta(permissions: dict[str, Any]) -> dict[str, Any]:
    meta = permissions.get("meta", {})
    if not isinstance(meta, dict) or any(isinstance(value, dict | list) for value in meta.values()):
        raise grant_error("grant", "Invalid meta", "Only scalar values are allowed.", "permissions.meta")
    return meta


def _user_id(permissions: dict[str, Any]) -> str | None:
    user_id = permissions.get("uuid")
    if user_id is not None and not isinstance(user_id, str):
        raise grant_error("grant", "Invalid uuid", "A string is needed.", "permissions.uuid")
    return user_id or None
