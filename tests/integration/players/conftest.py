"""A database with the application alone, and somebody to hear."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from sketchy_orchestration.local.application import install
from sketchy_orchestration.local.pubnub import LocalPubNub
from sketchy_orchestration.local.pubnub.testing import local_pubnub
from sketchy_orchestration.pubnub.keyset import Keyset

__all__ = ["local_pubnub"]


@pytest.fixture
def application_url(empty_database: str) -> str:
    """A database of the application's last version on which nothing of ours is installed."""
    install(empty_database)
    return empty_database


@pytest.fixture
def keyset(local_pubnub: LocalPubNub) -> Keyset:
    return Keyset(
        publish_key=SecretStr(local_pubnub.publish_key),
        subscribe_key=SecretStr(local_pubnub.subscribe_key),
        origin=local_pubnub.origin,
        ssl=False,
    )
