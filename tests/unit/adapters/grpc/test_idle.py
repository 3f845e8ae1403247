"""One timer per stream bounds each wait for the caller, and only the waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from kepler.adapters.grpc.idle import IdleWatch

IDLE_S = 0.05
LONG_S = 5.0


async def wait(idle: IdleWatch, what: Awaitable[Any]) -> Any:
    """As a reader of requests does it."""
    idle.begin()
    try:
        result = await what
    except asyncio.CancelledError:
        idle.check()
        raise
    idle.end()
    return result


async def test_a_wait_that_is_too_long_times_out_and_leaves_the_task_uncancelled():
    idle = IdleWatch(IDLE_S)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(TimeoutError):
        await wait(idle, asyncio.sleep(LONG_S))
    assert IDLE_S <= loop.time() - started < LONG_S / 2
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(2 * IDLE_S)
    idle.close()


async def test_what_happens_between_the_waits_counts_for_none_of_them():
    idle = IdleWatch(IDLE_S)
    for _ in range(3):
        assert await wait(idle, asyncio.sleep(IDLE_S / 5, "here")) == "here"
        await asyncio.sleep(1.5 * IDLE_S)
    with pytest.raises(TimeoutError):
        await wait(idle, asyncio.sleep(LONG_S))
    idle.close()


async def test_short_waits_may_add_up_to_more_than_the_bound():
    idle = IdleWatch(4 * IDLE_S)
    for _ in range(8):
        await wait(idle, asyncio.sleep(IDLE_S))
    idle.close()


async def test_a_cancellation_of_somebody_else_stays_one():
    idle = IdleWatch(LONG_S)
    task = asyncio.create_task(wait(idle, asyncio.sleep(LONG_S)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    idle.close()


async def test_a_cancellation_together_with_the_bound_is_a_cancellation():
    idle = IdleWatch(0.0)
    task = asyncio.create_task(wait(idle, asyncio.sleep(LONG_S)))
    await asyncio.sleep(0)
    task.cancel()
    idle._look()
    with pytest.raises(asyncio.CancelledError):
        await task
    idle.close()


async def test_another_task_may_take_over_the_waiting():
    idle = IdleWatch(IDLE_S)
    await wait(idle, asyncio.sleep(0))
    task = asyncio.create_task(wait(idle, asyncio.sleep(LONG_S)))
    with pytest.raises(TimeoutError):
        await task
    idle.close()


async def test_nothing_comes_after_the_end():
    idle = IdleWatch(IDLE_S)
    idle.begin()
    idle.close()
    await asyncio.sleep(2 * IDLE_S)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
