"""The local PubNub, with room for subscribers that fall behind.

The service, and the stand-in by itself, keep 100 messages for a subscriber's next call and lose the rest
without a word. In bursts that would be the referee's loss, and count as a contestant's.
"""

from __future__ import annotations

from sketchy_orchestration.local.pubnub.config import StandInConfig
from sketchy_orchestration.local.pubnub.process import serve

if __name__ == "__main__":
    serve(StandInConfig(buffer_messages=100_000))
