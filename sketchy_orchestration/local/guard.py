"""Waits for its owner's end, however it comes, and ends what the owner left running.

The kernel's death signal reaches the owner's own children; a program that one of them started (a Dagster
run, say) would stay. Its standard input is a pipe from the owner, whose end of file is the owner's end.

Usage: python -m sketchy_orchestration.local.guard <mark> <process id of Postgres, or 0>
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

import psutil

from sketchy_orchestration.local import processes


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    mark, postgres = sys.argv[1], int(sys.argv[2])
    with suppress(psutil.NoSuchProcess):
        server = psutil.Process(postgres) if postgres else None
        sys.stdin.buffer.read()
        processes.end_marked(mark)
        if server is not None and processes.alive(server.pid, since=server.create_time()):
            server.send_signal(signal.SIGINT)


if __name__ == "__main__":
    main()
