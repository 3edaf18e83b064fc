"""The legacy handler as a process: the way games were moved on before."""

from __future__ import annotations

import os
import signal

from pydantic import SecretStr

from sketchy_orchestration.local.legacy import LegacyHandler
from sketchy_orchestration.pubnub.keyset import Keyset


def main() -> None:
    """Until the process is ended."""
    keyset = Keyset(
        SecretStr(os.environ["PUBNUB_PUBLISH_KEY"]),
        SecretStr(os.environ["PUBNUB_SUBSCRIBE_KEY"]),
        origin=os.environ["PUBNUB_ORIGIN"],
        ssl=False,
    )
    with LegacyHandler(os.environ["BENCH_URL"], keyset):
        print("ready", flush=True)
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()
