"""Channels and presence without HTTP: bounds, expiry, the cost of a publish."""

from __future__ import annotations

import asyncio
import random
import time

from hypothesis import given
from hypothesis import strategies as st

from sketchy_orchestration.local.pubnub import StandInConfig
from sketchy_orchestration.local.pubnub.channels import Channels
from sketchy_orchestration.local.pubnub.message import Message
from sketchy_orchestration.local.pubnub.presence import Presence
from sketchy_orchestration.local.pubnub.timetoken import TimetokenClock, seconds


def _message(timetoken: int, channel: str, *, expires: int | None = None, stored: bool = True) -> Message:
    return Message(timetoken, channel, b"%d" % timetoken, stored=stored, expires=expires)


@given(st.lists(st.sampled_from("abc"), max_size=400), st.integers(1, 60))
def test_the_log_keeps_the_newest_over_all_channels(names: list[str], bound: int) -> None:
    channels = Channels(StandInConfig(log_messages=bound))
    for number, name in enumerate(names, 1):
        channels.add(_message(number, name))
    kept = list(enumerate(names, 1))[-bound:]
    assert channels.kept == len(kept)
    assert len(channels) == len({name for _, name in kept})
    for name in "abc":
        channel = channels.get(name)
        page = channel.newest_stored(None, None, 1000, 0) if channel is not None else []
        assert [message.timetoken for message in page] == [number for number, at in kept if at == name]


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 120))
def test_catching_up_is_the_newest_of_what_is_newer(count: int, since: int, buffer: int) -> None:
    channels = Channels(StandInConfig(buffer_messages=buffer))
    chance = random.Random(count)
    for number in range(1, count + 1):
        channels.add(_message(number, chance.choice("ab")))
    missed = channels.catch_up(["a", "b", "nobody"], since, now=count)
    newer = list(range(since + 1, count + 1))
    assert [message.timetoken for message in missed] == newer[-buffer:]
    assert channels.lost == max(0, len(newer) - buffer)


def test_what_has_expired_is_neither_shown_nor_counted() -> None:
    channels = Channels(StandInConfig())
    channels.add(_message(1, "room", expires=100))
    channels.add(_message(2, "room"))
    room = channels.get("room")
    assert room is not None
    assert [message.timetoken for message in room.newest_stored(None, None, 10, now=99)] == [1, 2]
    assert [message.timetoken for message in room.newest_stored(None, None, 10, now=100)] == [2]
    assert room.count_stored(0, now=100, most=10) == 1


def test_a_dropped_message_is_really_gone() -> None:
    channels = Channels(StandInConfig(log_bytes=1_000_000))
    for number in range(1, 2_000):
        channels.add(Message(number, f"room-{number % 50}", b"x" * 10_000, stored=True))
    held = [
        message for number in range(50) if (room := channels.get(f"room-{number}")) for message in room.log
    ]
    assert sum(len(message.payload) for message in held) <= 1_000_000


async def test_a_publish_wakes_only_who_waits_for_its_channel_and_at_once() -> None:
    channels = Channels(StandInConfig())
    waiting = [asyncio.create_task(channels.wait([f"room-{number}"], 0, 60)) for number in range(1000)]
    await asyncio.sleep(0)
    channels.add(_message(1, "room-7"))
    woken = await waiting[7]
    assert list(woken.inbox)
    assert [task.done() for task in waiting].count(True) == 1
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (channels.waiting, len(channels)) == (0, 1)


def test_a_publish_costs_the_same_however_many_messages_came_before() -> None:
    def cost(channels: Channels, first: int) -> float:
        rounds = []
        for attempt in range(5):
            began = time.process_time()
            for number in range(2_000):
                channels.add(_message(first + attempt * 2_000 + number, f"room-{number % 100}"))
            rounds.append(time.process_time() - began)
        return min(rounds)

    fresh = cost(Channels(StandInConfig()), 1)
    channels = Channels(StandInConfig())
    for number in range(1, 60_001):
        channels.add(_message(number, f"room-{number % 1000}"))
    assert cost(channels, 60_001) < 4 * fresh


async def test_refreshing_a_presence_does_not_pile_up_work() -> None:
    config = StandInConfig()
    presence = Presence(config, TimetokenClock(), Channels(config))
    for _ in range(1000):
        presence.arrive("me", ["room"], 300)
        presence.poll("me", ["room"], 1)
        presence.poll("me", ["room"], -1)
    assert len(presence._deadlines) == 1
    assert presence.channels_of("me") == ["room"]
    presence.leave("me", ["room"])
    assert presence.occupied() == []
    presence.close()


async def test_a_shorter_timeout_takes_effect_at_once() -> None:
    config = StandInConfig()
    presence = Presence(config, TimetokenClock(), Channels(config))
    presence.arrive("other", ["room"], 300)
    presence.arrive("me", ["room"], 300)
    presence.arrive("me", ["room"], 0.05)
    async with asyncio.timeout(5):
        while presence.users("room") != ["other"]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    presence.close()


def test_ages_are_counted_in_timetokens() -> None:
    assert seconds(1.5) == 15_000_000
