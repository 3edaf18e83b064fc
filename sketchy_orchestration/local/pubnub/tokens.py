"""Access tokens: the CBOR the service issues and the SDKs take apart."""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any

import cbor2

READ, WRITE, MANAGE, DELETE, CREATE, GET, UPDATE, JOIN = (1 << bit for bit in range(8))

# The signature is the map's last entry: the byte string "sig", then a byte string of 32.
_SIGNATURE_HEAD = b"Csig\x58\x20"
_SIGNATURE_TAIL = len(_SIGNATURE_HEAD) + 32


@dataclass(frozen=True, slots=True)
class Token:
    """What one token allows. Times in seconds since 1970."""

    issued: int
    expires: int
    user_id: str | None
    channels: dict[str, int]
    patterns: tuple[tuple[re.Pattern[str], int], ...]

    def allows(self, channel: str, permission: int) -> bool:
        granted = self.channels.get(channel, 0)
        for pattern, bits in self.patterns:
            if pattern.search(channel):
                granted |= bits
        return granted & permission == permission


def issue(
    secret_key: str,
    *,
    now: int,
    minutes: int,
    resources: dict[str, dict[str, int]],
    patterns: dict[str, dict[str, int]],
    meta: dict[str, Any],
    user_id: str | None,
) -> str:
    """A token as the service writes it: keys are byte strings, `sig` signs everything before it."""
    body: dict[bytes, Any] = {
        b"v": 2,
        b"t": now,
        b"ttl": minutes,
        b"res": _section(resources),
        b"pat": _section(patterns),
        b"meta": meta,
    }
    if user_id is not None:
        body[b"uuid"] = user_id
    body[b"sig"] = bytes(32)
    unsigned = cbor2.dumps(body)[:-_SIGNATURE_TAIL]
    signature = hmac.digest(secret_key.encode(), unsigned, "sha256")
    return urlsafe_b64encode(unsigned + _SIGNATURE_HEAD + signature).decode()


def _section(granted: dict[str, dict[str, int]]) -> dict[bytes, dict[str, int]]:
    names = {b"chan": "channels", b"grp": "groups", b"spc": "spaces", b"usr": "users", b"uuid": "uuids"}
    return {short: granted.get(name, {}) for short, name in names.items()}


def read(secret_key: str, token: str) -> Token | None:
    """The token's content, or None when it was not issued with this secret.

    Nothing of a token is decoded before its signature holds.
    """
    try:
        data = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
    except ValueError:
        return None
    unsigned, tail = data[:-_SIGNATURE_TAIL], data[-_SIGNATURE_TAIL:]
    wanted = _SIGNATURE_HEAD + hmac.digest(secret_key.encode(), unsigned, "sha256")
    if not hmac.compare_digest(tail, wanted):
        return None
    content = cbor2.loads(data)
    return Token(
        issued=content[b"t"],
        expires=content[b"t"] + content[b"ttl"] * 60,
        user_id=content.get(b"uuid"),
        channels={**content[b"res"][b"spc"], **content[b"res"][b"chan"]},
        patterns=tuple(
            (re.compile(pattern), bits)
            for name in (b"chan", b"spc")
            for pattern, bits in content[b"pat"][name].items()
        ),
    )
