"""Our form of the SDK's publish makes the very requests of the SDK's own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pubnub.endpoints.pubsub.publish import Publish
from pubnub.pnconfiguration import PNConfiguration
from pubnub.pubnub import PubNub

from sketchy_orchestration.domain import envelope
from sketchy_orchestration.pubnub.sdk import _Publish


@pytest.fixture(scope="module")
def client() -> PubNub:
    config = PNConfiguration()
    config.publish_key, config.subscribe_key, config.uuid = "pub+/key", "sub", "somebody"
    config.enable_subscribe = False
    return PubNub(config)


MESSAGES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def requested(endpoint: Any) -> tuple[object, ...]:
    endpoint.validate_params()
    options = endpoint.options()
    options.merge_params_in({})
    return options.method_string, options.path, options.query_string, options.data, options.request_headers


@given(st.dictionaries(st.text(), MESSAGES, max_size=4), st.text(min_size=1), st.booleans(), st.booleans())
@example({"all": "".join(map(chr, range(300))) + "€😀"}, "game-1", True, False)
@example({"percent": "%22 100 % +"}, "a+b c", False, True)
def test_the_same_request(
    client: PubNub, message: dict[str, object], channel: str, store: bool, post: bool
) -> None:
    own = Publish(client).channel(channel).message(message).should_store(store).use_post(post)
    known: dict[bool, dict[str, str]] = {}
    for _ in range(2):
        ours = _Publish(client, channel, envelope.to_json(message), store, known=known, use_post=post)
        assert requested(ours) == requested(own)
