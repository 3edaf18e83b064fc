"""The one shape of every error the gateway answers with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from sketchy_orchestration.database.gateway import DatabaseAwayError, DatabaseBusyError, ValueRefusedError
from sketchy_orchestration.errors import SketchyError


@dataclass(frozen=True, slots=True)
class Problem:
    """One field of a request that is wrong."""

    field: str
    problem: str


class RequestError(Exception):
    """Ends a request with an error.

    Args:
        status: HTTP status.
        code: stable word for programs.
        message: one sentence for people; never SQL, a secret or what the caller sent.
        retry_after: seconds after which trying again makes sense; becomes the header Retry-After.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        problems: Sequence[Problem] = (),
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.problems = tuple(problems)
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, round(retry_after)))

    def response(self, request_id: str) -> Response:
        """The answer, with the request's id."""
        error: dict[str, object] = {"code": self.code, "message": self.message, "requestId": request_id}
        if self.problems:
            error["details"] = [{"field": p.field, "problem": p.problem} for p in self.problems]
        return answer({"error": error}, self.status, self.headers)


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(), status, dict(headers) if headers else None, media_type="application/json")


def unauthorized(message: str, *, scheme: str | None = "Bearer") -> RequestError:
    """401; with a challenge where the credential is a bearer token."""
    challenge = {"WWW-Authenticate": scheme} if scheme else {}
    return RequestError(401, "unauthorized", message, headers=challenge)


def unavailable(code: str, message: str, retry_after: float = 1.0) -> RequestError:
    """503: not now, try again."""
    return RequestError(503, code, message, retry_after=retry_after)


def explained(error: SketchyError) -> RequestError:
    """A failure below as the answer to the caller; what the caller can do nothing about is a 500."""
    if isinstance(error, DatabaseBusyError):
        return unavailable("database_busy", "every database connection is in use")
    if isinstance(error, DatabaseAwayError):
        return unavailable("database_unavailable", "the database does not answer", 2.0)
    if isinstance(error, ValueRefusedError):
        return RequestError(400, "invalid_request", "a value in the request cannot be stored")
    return unexpected()


def unexpected() -> RequestError:
    """500; what it was is in the log under the request's id."""
    return RequestError(
        500, "internal_error", "something went wrong here; the log knows it by the request id"
    )
