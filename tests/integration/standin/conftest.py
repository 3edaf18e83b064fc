"""A stand-in for each test, and bare HTTP to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from sketchy_orchestration.local.pubnub import LocalPubNub, StandInConfig
from sketchy_orchestration.local.pubnub.testing import local_pubnub
from tests.integration.standin.wire import Wire

__all__ = ["local_pubnub"]


@pytest.fixture
def wire(local_pubnub: LocalPubNub) -> Wire:
    return Wire(local_pubnub)


@pytest.fixture
def start() -> Iterator[Callable[..., Wire]]:
    """Starts a stand-in configured as the test wants it."""
    with ExitStack() as stack:

        def start_one(**settings: Any) -> Wire:
            return Wire(stack.enter_context(LocalPubNub(StandInConfig(**settings))))

        yield start_one
