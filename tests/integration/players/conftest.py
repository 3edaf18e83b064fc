"""A database with the application alone, and somebody to hear."""

from __future__ import annotations

import pytest

from sketchy_orchestration.local.application import install
from sketchy_orchestration.local.players.listener import Keyset
from sketchy_orchestration.local.pubnub import LocalPubNub
from sketchy_orchestration.local.pubnub.testing import local_pubnub

__all__ = ["local_pubnub"]


@pytest.fixture
def application_url(empty_database: str) -> str:
    """A database of the application's last version on which nothing of ours is installed."""
    install(empty_database)
    return empty_database


@pytest.fixture
def keyset(local_pubnub: LocalPubNub) -> Keyset:
    return Keyset(local_pubnub.origin, local_pubnub.subscribe_key, local_pubnub.publish_key)
