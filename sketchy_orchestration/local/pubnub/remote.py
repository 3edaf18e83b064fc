"""A stand-in that runs in another process, seen through its control endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote, urlencode

from sketchy_orchestration.local.pubnub.config import StandInError
from sketchy_orchestration.local.pubnub.control import PREFIX

DEFAULT_PORT = 18090
_TIMEOUT_SECONDS = 10.0


class RunningStandIn:
    """Talks to the stand-in at an origin, "host:port"; straight, whatever proxy the environment names.

    Every method raises StandInError when nothing answers there, or something that is no stand-in.
    """

    def __init__(self, origin: str) -> None:
        host, _, port = origin.rpartition(":")
        if not host or not port.isdigit():
            raise StandInError(f"{origin!r} is not an origin: write it as 127.0.0.1:{DEFAULT_PORT}")
        self._origin = origin
        self._host, self._port = host, int(port)

    def stats(self) -> dict[str, Any]:
        """Counts since its start, and what it holds now."""
        return self._control("GET", "stats")

    def record(self, after: int = 0, *, limit: int = 1000, wait: int = 0) -> dict[str, Any]:
        """`entries` accepted from number `after` on and the `count`; waits up to `wait` seconds for one."""
        query = urlencode({"after": after, "limit": limit, "wait": wait})
        return self._control("GET", f"record?{query}", patience=wait)

    def faults(self) -> list[dict[str, Any]]:
        return list(self._control("GET", "faults")["faults"])

    def fault_on(self, settings: Mapping[str, Any]) -> int:
        """Switch a fault on; returns its number. Settings are those of `Fault`, with `kind`."""
        return int(self._control("POST", "faults", settings)["number"])

    def fault_off(self, number: int | None = None) -> int:
        """Switch one fault off, or all; returns how many were on."""
        return int(self._control("DELETE", "faults" if number is None else f"faults/{number}")["off"])

    def publish(
        self,
        channel: str,
        message: object,
        *,
        publish_key: str,
        subscribe_key: str,
        signal: bool = False,
        store: bool | None = None,
        user_id: str = "sketchy-cli",
    ) -> str:
        """Publish and return the timetoken.

        Raises:
            StandInError: it was refused; the message says with what.
        """
        kind = "signal" if signal else "publish"
        text = quote(json.dumps(message, separators=(",", ":")), safe="")
        query = {"uuid": user_id, **({} if store is None else {"store": int(store)})}
        path = (
            f"/{kind}/{publish_key}/{subscribe_key}/0/{quote(channel, safe='')}/0/{text}?{urlencode(query)}"
        )
        status, body = self._request("GET", path)
        if status != 200 or not isinstance(body, list):
            raise StandInError(f"{self._origin} refused it with status {status}: {json.dumps(body)}")
        return str(body[2])

    def _control(
        self, method: str, what: str, body: Mapping[str, Any] | None = None, patience: float = 0
    ) -> dict[str, Any]:
        status, answer = self._request(method, PREFIX + what, body, patience)
        if isinstance(answer, dict) and status == 400 and set(answer) == {"error"}:
            raise StandInError(str(answer["error"]))
        if status != 200 or not isinstance(answer, dict):
            raise StandInError(f"what answers at {self._origin} is not a local PubNub")
        return answer

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, patience: float = 0
    ) -> tuple[int, Any]:
        connection = HTTPConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS + patience)
        try:
            if body is None:
                connection.request(method, path)
            else:
                headers = {"Content-Type": "application/json"}
                connection.request(method, path, json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except OSError as error:
            raise StandInError(
                f"nothing answers at {self._origin} ({error.strerror or error})",
                hint="start one with: sketchy pubnub serve",
            ) from None
        except (HTTPException, ValueError):
            raise StandInError(f"what answers at {self._origin} is not a local PubNub") from None
        finally:
            connection.close()
