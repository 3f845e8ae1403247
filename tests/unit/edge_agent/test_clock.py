"""The clock says what it knows: a start at 1970, a clock that nothing sets, one that is set."""

from __future__ import annotations

import pytest

from kepler_edge.clock import EARLIEST_TS, UNKNOWN_ERR_MS, Clock, Sync, boot_name


class Times:
    def __init__(self, wall: float) -> None:
        self.wall, self.mono, self.said = wall, 100.0, Sync(False, 16000.0)

    def clock(self, probe: bool = True) -> Clock:
        return Clock(lambda: self.wall, lambda: self.mono, lambda: self.said if probe else None)


@pytest.mark.parametrize("wall", [0.0, 86400.0, EARLIEST_TS - 1, 8e9])
def test_an_impossible_time_is_not_set_whatever_the_kernel_says(wall: float) -> None:
    times = Times(wall)
    times.said = Sync(True, 1.0)
    assert times.clock().sync() == Sync(False, UNKNOWN_ERR_MS)


def test_never_set_is_not_known() -> None:
    assert Times(EARLIEST_TS + 10).clock().sync() == Sync(False, UNKNOWN_ERR_MS)


def test_the_error_grows_after_the_last_setting() -> None:
    times = Times(EARLIEST_TS + 10)
    clock = times.clock()
    times.said = Sync(True, 20.0)
    assert clock.sync() == Sync(True, 20.0)
    times.said = Sync(False, 16000.0)
    times.mono += 3600
    assert clock.sync() == Sync(False, 20.0 + 3600 * 0.5)


def test_without_a_kernel_to_ask_a_plausible_time_counts() -> None:
    assert Times(EARLIEST_TS + 10).clock(probe=False).sync().sync


def test_the_name_of_the_boot_stays() -> None:
    assert boot_name() == boot_name()
    assert len(boot_name()) == 32
