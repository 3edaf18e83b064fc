"""Players' access tokens (JWT): signature by secret or by published key, audience, expiry and issuer."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from typing import Any
from uuid import UUID

import aiohttp
import jwt
import structlog

from sketchy_orchestration.gateway.callers import Caller, Kind, Secrets
from sketchy_orchestration.gateway.failures import RequestError, unauthorized, unavailable

log = structlog.get_logger(__name__)

LEEWAY = 5.0
"""Seconds by which the clock of whoever issued a token may differ from ours."""

KNOWN_SECONDS = 30.0
"""For so long a token that was valid is not verified again; never beyond its expiry."""

MOST_KNOWN = 10_000

_SHARED = "HS256"
_PUBLISHED = ("ES256", "RS256", "EdDSA")
_FETCH_SECONDS = 5.0
_LARGEST = 262_144
# A key nobody has published must not make us ask for the keys with every request.
_LEAST_PAUSE = 10.0
_FRESH = 600.0


def issue(secret: str, user_id: str, *, audience: str, issuer: str, minutes: int) -> str:
    """An access token as Supabase issues it, to try things out with."""
    claims = {
        "sub": user_id,
        "role": "authenticated",
        "aud": audience,
        "iss": issuer,
        "exp": int(time.time()) + minutes * 60,
    }
    return jwt.encode(claims, secret, algorithm=_SHARED)


class PublishedKeys:
    """The public keys at a JWKS address, fetched when needed and kept.

    A key is looked for again at most every 10 s; known keys serve on while the address does not answer, and
    are asked for anew every 10 minutes, so that a withdrawn one is forgotten.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, jwt.PyJWK] = {}
        self._tried = float("-inf")
        self._fetched = float("-inf")
        self._lock = asyncio.Lock()

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """The key of that id; None when it is not published.

        Raises:
            RequestError: 503, no keys could be fetched so far.
        """
        if key_id not in self._keys or time.monotonic() - self._fetched > _FRESH:
            async with self._lock:
                if time.monotonic() - self._tried > _LEAST_PAUSE:
                    await self._fetch()
        if not self._keys:
            raise unavailable("keys_unavailable", "players' tokens cannot be checked now", _LEAST_PAUSE)
        return self._keys.get(key_id)

    async def _fetch(self) -> None:
        self._tried = time.monotonic()
        try:
            timeout = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(self._url) as response:
                response.raise_for_status()
                body = await response.content.read(_LARGEST)
            found = jwt.PyJWKSet.from_dict(json.loads(body)).keys
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, TypeError, jwt.PyJWTError) as error:
            log.warning("gateway_jwks_unreachable", url=self._url, why=type(error).__name__)
            return
        self._keys = {key.key_id: key for key in found if key.key_id}
        self._fetched = time.monotonic()


class PlayerTokens:
    """Tells a player from a token.

    Args:
        secrets: secrets of tokens signed with HS256.
        keys: published keys of tokens signed otherwise.
        audience, issuer: what the token must say.
    """

    def __init__(self, secrets: Secrets, keys: PublishedKeys | None, *, audience: str, issuer: str) -> None:
        self._secrets = secrets
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        self._known: OrderedDict[str, tuple[float, Caller]] = OrderedDict()

    async def player(self, token: str) -> Caller:
        """The player whose token this is.

        Raises:
            RequestError: 401 when the token is not valid now, 503 when that cannot be told.
        """
        until, known = self._known.get(token, (0.0, None))
        now = time.time()
        if known is not None and now < until:
            return known
        claims = await self._claims(token)
        caller = self._caller(claims)
        while len(self._known) >= MOST_KNOWN:
            self._known.popitem(last=False)
        self._known[token] = (min(float(claims["exp"]), now + KNOWN_SECONDS), caller)
        return caller

    def _caller(self, claims: dict[str, Any]) -> Caller:
        subject = claims["sub"]
        # The keys of the project itself are tokens too, signed alike; they are nobody's.
        if claims.get("role", "authenticated") != "authenticated":
            raise unauthorized("the token is not a player's")
        try:
            return Caller(Kind.player, str(UUID(subject)))
        except (ValueError, AttributeError, TypeError):
            raise unauthorized("the token names no player") from None

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise unauthorized("the token cannot be read") from None
        algorithm = header.get("alg")
        if algorithm == _SHARED and self._secrets:
            return self._by_secret(token)
        if algorithm in _PUBLISHED and self._keys is not None:
            key = await self._keys.find(str(header.get("kid", "")))
            if key is None:
                raise unauthorized("the token is signed with an unknown key")
            return self._verified(token, key, algorithm)
        raise unauthorized("the token is signed in a way that is not accepted")

    def _by_secret(self, token: str) -> dict[str, Any]:
        refused: RequestError | None = None
        for secret in self._secrets.values():
            try:
                return self._verified(token, secret, _SHARED)
            except RequestError as failure:
                # What a valid signature says of expiry counts more than that another secret does not fit.
                if refused is None or failure.code != "unauthorized":
                    refused = failure
        raise refused or unauthorized("the token's signature is wrong")

    def _verified(self, token: str, key: Any, algorithm: str) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "sub", "aud", "iss"]},
            )
        except jwt.ExpiredSignatureError:
            raise RequestError(
                401,
                "token_expired",
                "the token has expired",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            ) from None
        except jwt.PyJWTError:
            raise unauthorized("the token is not valid") from None
