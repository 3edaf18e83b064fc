from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from pydantic import SecretStr

from sketchy_orchestration.monitoring import logs
from sketchy_orchestration.settings import Environment, LogLevel, Settings

SETTINGS = Settings(
    _env_file=None,
    environment=Environment.production,
    database_url=SecretStr("postgresql://owner:hunter2secret@db.invalid/app"),
    cron_secret=SecretStr("very-long-cron-secret"),
    pubnub_secret_key=SecretStr("the-secret-key-of-pubnub"),
)


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    before, handlers = structlog.get_config(), list(logging.getLogger().handlers)
    level = logging.getLogger().level
    yield io.StringIO()
    structlog.configure(**before)
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


def lines(output: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_production_logs_json_with_what_is_bound(output: io.StringIO) -> None:
    logs.configure(SETTINGS, to=output)
    with structlog.contextvars.bound_contextvars(request_id="r-1", game_id="g-1"):
        structlog.get_logger("x").warning("something", count=3)
    (line,) = lines(output)
    assert line["event"] == "something"
    assert (line["request_id"], line["game_id"], line["count"], line["level"]) == ("r-1", "g-1", 3, "warning")
    assert str(line["timestamp"]).endswith("Z")


def test_the_level_is_held(output: io.StringIO) -> None:
    logs.configure(SETTINGS.model_copy(update={"log_level": LogLevel.error}), to=output)
    structlog.get_logger("x").warning("not told")
    logging.getLogger("library").warning("not told")
    structlog.get_logger("x").error("told")
    assert [line["event"] for line in lines(output)] == ["told"]


def test_people_get_lines(output: io.StringIO) -> None:
    logs.configure(SETTINGS.model_copy(update={"environment": Environment.development}), to=output)
    structlog.get_logger("x").info("something", game_id="g-1")
    assert "something" in output.getvalue()
    assert "game_id=g-1" in output.getvalue()


@pytest.mark.parametrize(
    "said",
    [
        {"event": "no connection to postgresql://owner:hunter2secret@db.invalid/app"},
        {"event": "x", "cron_secret": "very-long-cron-secret"},
        {"event": "x", "value": "very-long-cron-secret in the middle"},
        {"event": "x", "headers": {"Authorization": "Bearer abcdefghijklmnop"}},
        {"event": "Authorization: Bearer abcdefghijklmnop"},
        {"event": "GET /publish/pub-c-12345678-aaaa/sub-c-12345678-bbbb/0/x?signature=v2.abcdef"},
        {"event": "x", "error": RuntimeError("the-secret-key-of-pubnub was refused")},
        {"event": "x", "many": ["very-long-cron-secret"]},
        {"event": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"},
    ],
)
def test_no_secret_is_logged(said: dict[str, object], output: io.StringIO) -> None:
    logs.configure(SETTINGS, to=output)
    structlog.get_logger("x").error(**said)
    logging.getLogger("library").error("%s", said)
    text = output.getvalue()
    assert len(lines(output)) == 2
    for secret in (
        "hunter2secret",
        "very-long-cron-secret",
        "abcdefghijklmnop",
        "12345678-",
        "v2.abcdef",
        "the-secret-key",
        "eyJzdWIi",
    ):
        assert secret not in text


def test_exceptions_are_cleaned_too(output: io.StringIO) -> None:
    logs.configure(SETTINGS, to=output)
    try:
        raise RuntimeError("very-long-cron-secret")
    except RuntimeError:
        structlog.get_logger("x").exception("failed")
        logging.getLogger("library").exception("failed")
    assert "very-long-cron-secret" not in output.getvalue()
    assert all("RuntimeError" in str(line["exception"]) for line in lines(output))
