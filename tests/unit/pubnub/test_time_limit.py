"""One timer for many limits, with the manners of asyncio.timeout."""

from __future__ import annotations

import asyncio

import pytest

from sketchy_orchestration.pubnub.time_limit import TimeLimits


async def limited(limits: TimeLimits, seconds: float, takes: float) -> str:
    limit = limits.begin(seconds)
    try:
        await asyncio.sleep(takes)
    except asyncio.CancelledError:
        if limit.is_why():
            return "too long"
        raise
    finally:
        limit.end()
    return "done"


async def test_each_ends_at_its_own_limit_and_none_before_it() -> None:
    limits, loop = TimeLimits(), asyncio.get_running_loop()
    began = loop.time()
    slow = [asyncio.create_task(limited(limits, 0.1, 30)) for _ in range(3)]
    quick = [asyncio.create_task(limited(limits, 0.1, n / 1000)) for n in range(20)]
    other = asyncio.create_task(limited(limits, 0.02, 30))
    assert await other == "too long"
    later = asyncio.create_task(limited(limits, 0.1, 30))
    assert await asyncio.gather(*quick) == ["done"] * 20
    assert await asyncio.gather(*slow, later) == ["too long"] * 4
    assert loop.time() - began >= 0.12
    # What was too long is not cancelled for it any more.
    assert [task.cancelling() for task in (*slow, other, later)] == [0] * 5


async def test_somebody_elses_cancellation_stays_one() -> None:
    limits = TimeLimits()
    task = asyncio.create_task(limited(limits, 10, 30))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_by_both_in_the_same_turn_is_cancelled() -> None:
    limits = TimeLimits()

    async def both() -> None:
        task = asyncio.current_task()
        assert task is not None
        limit = limits.begin(10)
        limit.expired = True
        asyncio.get_running_loop().call_soon(lambda: (task.cancel(), task.cancel()))
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            assert not limit.is_why()
            raise

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(both())


async def test_closing_leaves_nothing_behind() -> None:
    limits = TimeLimits()
    limits.begin(0.01).end()
    task = asyncio.create_task(limited(limits, 0.01, 0.05))
    await asyncio.sleep(0)
    limits.close()
    assert await task == "done"
