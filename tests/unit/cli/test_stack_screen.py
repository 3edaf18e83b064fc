"""What the one screen says before everything is up."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from sketchy_orchestration.cli.stack_screen import screen
from sketchy_orchestration.local.stack_state import PartState


@pytest.mark.parametrize(
    ("address", "starts", "said"),
    [(None, True, "starting ..."), ("http://127.0.0.1:3000", False, "http://127.0.0.1:3000")],
)
def test_the_dagster_ui_is_starting_until_it_has_an_address(
    address: str | None, starts: bool, said: str
) -> None:
    text = StringIO()
    shown = screen(None, [], title="t", dagster_ui=address, dagster_starts=starts)
    Console(file=text, width=100).print(shown)
    row = next(line for line in text.getvalue().splitlines() if "Dagster UI" in line)
    assert row.strip("│ ").removeprefix("Dagster UI").strip() == said


def test_no_line_breaks_between_a_parts_mark_and_its_name() -> None:
    names = ("pubnub", "players", "gateway", "code-server", "dagster-daemon", "dagster-webserver", "watchdog")
    parts = [PartState(name, 0, None, "") for name in names]
    for width in range(60, 140, 5):
        text = StringIO()
        Console(file=text, width=width).print(screen(None, parts, title="t", gateway="http://127.0.0.1:8787"))
        assert [name for name in names if f"● {name}" not in text.getvalue()] == []
        assert "http://127.0.0.1:8787/functions/v1" in text.getvalue()
