"""`python -m sketchy_orchestration.local.pubnub --port N`: the stand-in as a process."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from sketchy_orchestration.local.pubnub.config import StandInConfig, StandInError
from sketchy_orchestration.local.pubnub.process import serve


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 after an orderly stop, 1 with one line on stderr otherwise."""
    parser = argparse.ArgumentParser(
        prog="python -m sketchy_orchestration.local.pubnub",
        description="A PubNub-compatible server on 127.0.0.1. The secret key is read from PUBNUB_SECRET_KEY.",
    )
    defaults = StandInConfig()
    parser.add_argument("--port", type=int, default=0, help="0 for any free one")
    parser.add_argument("--publish-key", default=defaults.publish_key)
    parser.add_argument("--subscribe-key", default=defaults.subscribe_key)
    parser.add_argument(
        "--enforce-access", action="store_true", help="refuse what no token or signature allows"
    )
    parser.add_argument("--publish-rate", type=float, help="publishes a second beyond which 429 is answered")
    parser.add_argument("--record", type=Path, help="append everything accepted to this file, as JSON lines")
    parser.add_argument("--seed", type=int, default=0, help="of every random decision faults make")
    given = parser.parse_args(arguments)
    try:
        serve(
            StandInConfig(
                port=given.port,
                publish_key=given.publish_key,
                subscribe_key=given.subscribe_key,
                secret_key=os.environ.get("PUBNUB_SECRET_KEY") or None,
                enforce_access=given.enforce_access,
                publish_rate=given.publish_rate,
                record_file=given.record,
                seed=given.seed,
            )
        )
    except StandInError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
