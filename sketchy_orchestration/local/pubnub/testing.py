"""For tests: import `local_pubnub` from here and it is a pytest fixture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sketchy_orchestration.local.pubnub.embedded import LocalPubNub

__all__ = ["local_pubnub"]


@pytest.fixture
def local_pubnub() -> Iterator[LocalPubNub]:
    """A stand-in of this test's own, with nothing in it and no fault on."""
    with LocalPubNub() as pubnub:
        yield pubnub
