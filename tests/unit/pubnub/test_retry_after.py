from datetime import UTC, datetime

import pytest

from sketchy_orchestration.pubnub.sdk import retry_after

NOW = datetime(2025, 6, 29, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7),
        ("0.5", 0.5),
        ("0", None),
        ("-3", None),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("Sun, 29 Jun 2025 12:00:30 GMT", 30),
        ("Sun, 29 Jun 2025 12:00:30 -0000", 30),
        ("Sun, 29 Jun 2025 11:00:00 GMT", None),
    ],
)
def test_what_retry_after_asks_for(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds
