"""Windows give what a slow and obvious twin gives."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kepler_edge.windows import FUNCTIONS, Window, Windows

STEPS = st.lists(
    st.tuples(
        st.floats(0, 5).map(lambda step: round(step, 2)),  # seconds since the reading before
        st.one_of(st.none(), st.floats(-1000, 1000).map(lambda value: round(value, 3))),
    ),
    min_size=1,
    max_size=60,
)


def twin(function, cells):
    values = [value for _, value in cells]
    if function == "count":
        return float(len(values))
    if not values:
        return None
    if function == "slope":
        if max(at for at, _ in cells) == min(at for at, _ in cells):
            return None
        at = np.array([at for at, _ in cells])
        return float(np.polyfit(at - at[0], values, 1)[0])
    return {
        "mean": lambda: statistics.fmean(values),
        "std": lambda: statistics.pstdev(values),
        "min": lambda: min(values),
        "max": lambda: max(values),
        "last": lambda: values[-1],
        "first": lambda: values[0],
        "delta": lambda: values[-1] - values[0],
        "median": lambda: statistics.median(values),
        "range": lambda: max(values) - min(values),
    }[function]()


@pytest.mark.parametrize(("seconds", "rows"), [(7.0, 0), (0.0, 5)])
@given(steps=STEPS, offset=st.sampled_from([0.0, 1e9, -1e9]))
@settings(max_examples=100, deadline=None)
def test_every_function_is_its_twins(seconds, rows, steps, offset):
    windows = Windows([Window(name, "v", name, seconds, rows) for name in FUNCTIONS])
    cells, at = [], 1.8e9
    for step, value in steps:
        at += step
        given_ = None if value is None else value + offset
        made = windows.update("m", {"v": given_, "other": 1}, at)
        if given_ is not None:
            cells.append((at, given_))
        if seconds:
            cells = [cell for cell in cells if cell[0] > at - seconds]
        cells = cells[-rows:] if rows else cells
        assert made["v"] == given_
        assert made["other"] == 1
        for name in FUNCTIONS:
            expected = twin(name, cells)
            if expected is None:
                assert made[name] is None
            elif name in ("std", "slope", "mean"):  # sums in another order; times are cut to microseconds
                close = {"std": 1e-3, "slope": 0.05, "mean": 1e-6}[name] * max(1.0, abs(offset) * 1e-6)
                if name == "slope" and cells[-1][0] - cells[0][0] < 0.5:
                    continue  # steep over a moment: the twin itself is ill-conditioned
                assert made[name] == pytest.approx(expected, rel=1e-6, abs=close)
            else:
                assert made[name] == expected


def test_sums_do_not_drift_over_a_long_run():
    windows = Windows([Window("m", "v", "mean", 0, 50), Window("s", "v", "std", 0, 50)])
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(1e9, 1, 20_000), rng.normal(0, 1e-3, 20_000)])
    for at, value in enumerate(values):
        made = windows.update("x", {"v": float(value)}, at)
    assert made["m"] == pytest.approx(values[-50:].mean(), rel=1e-9)
    assert made["s"] == pytest.approx(values[-50:].std(), rel=1e-9)


def test_sources_are_apart_and_the_silent_one_is_forgotten_first():
    windows = Windows([Window("n", "v", "count", 0, 10)], max_sources=2)
    for source in ("a", "b", "a", "c"):
        made = windows.update(source, {"v": 1.0}, 0)
    assert made["n"] == 1
    assert windows.evicted == 1
    assert windows.update("a", {"v": 1.0}, 1)["n"] == 3  # b went, a stayed
    assert windows.update("b", {"v": 1.0}, 1)["n"] == 1


def test_memory_is_bounded_over_all_sources():
    windows = Windows([Window("n", "v", "count", 0, 100)], max_total=250)
    for at in range(2_000):
        windows.update(f"s{at % 10}", {"v": 1.0}, at)
        assert windows.readings <= 250


def test_a_clock_set_back_begins_anew_and_a_late_reading_counts_as_now():
    windows = Windows([Window("n", "v", "count", 10, 0)])
    windows.update("a", {"v": 1.0}, 1000)
    assert windows.update("a", {"v": 1.0}, 995)["n"] == 2
    assert windows.update("a", {"v": 1.0}, 500)["n"] == 1
    assert windows.update("a", {"v": math.inf}, 501)["n"] == 1
    assert windows.update("a", {}, 5000)["n"] == 0
