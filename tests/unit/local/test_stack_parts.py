"""One program of the stack, in its good and bad days."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.stack_parts import Part, PartFailedError, last_line

_LISTEN = (
    "import socket, sys, signal; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen();"
    "signal.pause()"
)


@pytest.fixture
def started() -> Iterator[list[Part]]:
    parts: list[Part] = []
    yield parts
    for part in parts:
        part.stop(hurry=True)


def _part(parts: list[Part], folder: Path, script: str, port: int | None = None) -> Part:
    part = Part(
        "thing",
        lambda chosen: [sys.executable, "-c", script, str(chosen)],
        env=lambda: {"PATH": os.environ["PATH"], "SEEN": "yes"},
        logs=folder,
        port=port,
        is_ready=(lambda chosen: not processes.is_free(chosen)) if port is not None else None,
        patience=20,
    )
    parts.append(part)
    return part


def test_a_busy_port_gets_another_one(tmp_path: Path, started: list[Part]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        busy = listener.getsockname()[1]
        part = _part(started, tmp_path, _LISTEN, busy)
        part.start()
        part.wait()
        assert part.port != busy
        assert part.alive


def test_a_port_taken_between_the_look_and_the_start_gets_another_one(
    tmp_path: Path, started: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        busy = listener.getsockname()[1]
        answers = iter([busy])
        real = processes.free_port
        monkeypatch.setattr(processes, "free_port", lambda _=None: next(answers, None) or real())
        part = _part(started, tmp_path, _LISTEN, busy)
        # Somebody else listening there must not be taken for the part being ready.
        part._is_ready = lambda chosen: chosen != busy and not processes.is_free(chosen)
        part.start()
        part.wait()
        assert part.port != busy


def test_one_that_ends_at_once_is_an_error_with_its_last_words(tmp_path: Path, started: list[Part]) -> None:
    part = _part(started, tmp_path, "import sys; sys.exit('no such luck')", processes.free_port())
    part.start()
    with pytest.raises(PartFailedError, match=r"thing ended at once: no such luck .*thing\.log"):
        part.wait()


def test_one_that_is_waited_for_leaves_its_caller_free(tmp_path: Path, started: list[Part]) -> None:
    ready: list[bool] = []
    part = _part(started, tmp_path, "import signal; signal.pause()", processes.free_port())
    part._is_ready = lambda _: bool(ready)
    part.start()
    waiting = part.waiting()
    assert (next(waiting, "ready"), next(waiting, "ready")) == (None, None)
    ready.append(True)
    assert next(waiting, "ready") == "ready"


def test_one_that_dies_while_it_is_waited_for_is_not_started_again(
    tmp_path: Path, started: list[Part]
) -> None:
    part = _part(started, tmp_path, "import signal; signal.pause()", processes.free_port())
    part.start()
    waiting = part.waiting()
    assert next(waiting, "ready") is None
    os.kill(part.state.pid, signal.SIGKILL)
    assert processes.wait_until(lambda: not part.alive, seconds=5)
    assert part.watch() is None
    with pytest.raises(PartFailedError, match="thing ended at once"):
        next(waiting)


def test_one_that_dies_is_started_again_on_the_same_port(tmp_path: Path, started: list[Part]) -> None:
    part = _part(started, tmp_path, _LISTEN, processes.free_port())
    part.start()
    part.wait()
    before = part.state
    os.kill(before.pid, signal.SIGKILL)
    assert processes.wait_until(lambda: not part.alive, seconds=5)
    said: list[str | None] = []
    assert processes.wait_until(lambda: said.append(part.watch()) or part.alive, seconds=10)
    part.wait()
    after = part.state
    assert (after.port, after.restarts, after.pid != before.pid) == (before.port, 1, True)
    assert [line for line in said if line] == [
        "thing ended (status -9): it said nothing; again in 0.5 s",
        "thing started again",
    ]


def test_it_sees_only_the_environment_it_was_given(tmp_path: Path, started: list[Part]) -> None:
    part = _part(started, tmp_path, "import os; print(sorted(k for k in os.environ if k != 'LC_CTYPE'))")
    part.start()
    assert processes.wait_until(lambda: not part.alive, seconds=10)
    assert last_line(part.log) == "['PATH', 'SEEN']"


def test_it_has_a_session_of_its_own_and_default_signals(tmp_path: Path, started: list[Part]) -> None:
    script = (
        "import os, signal; "
        "print(os.getsid(0) == os.getpid(), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,"
        " len(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    )
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        part = _part(started, tmp_path, script)
        part.start()
        assert processes.wait_until(lambda: not part.alive, seconds=10)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert last_line(part.log) == "True True 0"


def test_what_it_started_is_found_and_ended_by_its_mark(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, signal;"
        "subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], start_new_session=True);"
        "print('started', flush=True); signal.pause()"
    )
    mark = f"test-{os.getpid()}"
    log = tmp_path / "log"
    child = processes.start([sys.executable, "-c", script], env={**os.environ, processes.MARK: mark}, log=log)
    assert processes.wait_until(lambda: last_line(log) == "started", seconds=10)
    child.kill()
    child.wait()
    assert len(processes.marked(mark)) == 1
    assert processes.end_marked(mark) == 1
    assert processes.marked(mark) == []


def test_last_words_are_readable(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == "it said nothing"
    log.write_text("first\n\x1b[31mred\x1b[0m\n\n")
    assert last_line(log) == "red"
