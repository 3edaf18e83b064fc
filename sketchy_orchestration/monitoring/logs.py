"""How this system logs: JSON where machines read it, lines where people do, never a secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from pydantic import SecretStr
from structlog.typing import EventDict, WrappedLogger

from sketchy_orchestration.settings import Environment, Settings

HIDDEN = "***"
_NAMES = re.compile(
    r"(^|_)(secret|password|passwd|token|authorization|apikey|api_key|signature|cookie|auth)(_|$)"
    r"|_(secret|publish|subscribe|role)_key$|_database_url$|^database_url$",
    re.IGNORECASE,
)
# A password in a URL, a bearer token, a signed PubNub request, PubNub's own keys, a JWT.
_TEXTS = (
    (re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s@/]+@"), r"\g<head>:***@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 ***"),
    (re.compile(r"\b(signature|auth|token|password)=[^&\s'\"]+"), r"\1=***"),
    (re.compile(r"\b(pub|sub|sec)-c-[A-Za-z0-9-]{8,}"), r"\1-c-***"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), HIDDEN),
)
_SHORTEST = 6
"""Characters; a shorter secret would hide parts of ordinary words."""


class SecretFilter:
    """Hides what looks like a secret, and the very values of these settings, wherever they stand."""

    def __init__(self, settings: Settings | None = None) -> None:
        values = [] if settings is None else [getattr(settings, name) for name in type(settings).model_fields]
        secrets = {value.get_secret_value() for value in values if isinstance(value, SecretStr)}
        # Longest first: one may be part of another.
        self._secrets = sorted((s for s in secrets if len(s) >= _SHORTEST), key=len, reverse=True)

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {name: self._clean(name, value) for name, value in event.items()}

    def text(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        for pattern, instead in _TEXTS:
            text = pattern.sub(instead, text)
        return text

    def _clean(self, name: str, value: Any) -> Any:
        if isinstance(value, SecretStr) or (value is not None and _NAMES.search(name)):
            return HIDDEN
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, BaseException):
            return self.text(f"{type(value).__name__}: {value}")
        if isinstance(value, Mapping):
            return {key: self._clean(str(key), each) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._clean(name, each) for each in value]
        return value


def configure(settings: Settings, *, to: TextIO | None = None) -> None:
    """Log as the settings say: LOG_LEVEL, and JSON outside development. Safe to call again.

    What belongs to one request is bound with `structlog.contextvars.bind_contextvars(request_id=...)`.

    Args:
        to: where lines go; standard error, which leaves standard output to results.
    """
    output = to or sys.stderr
    readable = settings.environment is Environment.development
    level = logging.getLevelNamesMapping()[settings.log_level]
    hide = SecretFilter(settings)
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=output.isatty())
        if readable
        else structlog.processors.JSONRenderer(default=str)
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        hide,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(output),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, hide, renderer],
        )
    )
    root = logging.getLogger()
    for old in [each for each in root.handlers if getattr(each, "of_sketchy", False)]:
        root.removeHandler(old)
    handler.of_sketchy = True  # type: ignore[attr-defined]  # to find it again
    root.addHandler(handler)
    # Libraries say much that is nobody's business here.
    root.setLevel(max(logging.WARNING, level))
