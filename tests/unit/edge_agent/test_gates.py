"""What ends a probation, and drift of scores against training."""

from types import SimpleNamespace

import numpy as np
import pytest

from kepler.core.datasets import number_column
from kepler.core.profile import _number
from kepler_edge.gates import QUANTILES, Drift, Watch
from kepler_edge.model import Scored
from kepler_edge.package import Profile
from kepler_edge.release_doc import Gates

GATES = Gates(0.05, 0.05, 10.0, 0.25)
RNG = np.random.default_rng(4)


def model(task="regression", profile=None, labels=()):
    manifest = SimpleNamespace(
        task=task,
        target="y",
        profile={"y": profile} if profile else {},
        outputs=SimpleNamespace(labels=labels),
    )
    return SimpleNamespace(manifest=manifest)


def watched(n=200, *, errors=0, nans=0, lat_us=50.0, values=None, of=None):
    watch = Watch(of or model())
    for at in range(n):
        if at < errors:
            watch.observe(None, RuntimeError("it broke"))
        else:
            value = None if values is None else values[at]
            watch.observe(Scored({"out": value}, False, lat_us, nan=at < errors + nans), None)
    return watch


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, ""),
        ({"n": 19, "errors": 19}, ""),  # too few to say
        ({"errors": 11}, "failed and 5.0% may: it broke"),
        ({"errors": 10}, ""),
        ({"nans": 11}, "are NaN"),
        ({"lat_us": 11_000.0}, "11 ms"),
    ],
)
def test_gates(given, word):
    verdict = watched(**given).verdict(GATES)
    assert word in verdict if word else verdict == ""


def profile_of(values):
    found = _number(number_column(list(values)))
    return Profile("number", found.count, quantiles=found.quantiles)


def test_drift_of_numbers_against_the_services_profile():
    trained = RNG.normal(5, 2, 10_000)
    profile = profile_of(trained)
    assert len(profile.quantiles) == len(QUANTILES)
    same = watched(2_000, values=RNG.normal(5, 2, 2_000).tolist(), of=model(profile=profile))
    assert same.verdict(GATES) == ""
    assert same.figures["drift"] < 0.05
    moved = watched(2_000, values=RNG.normal(7, 2, 2_000).tolist(), of=model(profile=profile))
    assert "drift" in moved.verdict(GATES)
    assert moved.verdict(Gates(0.05, 0.05, 10.0, 0.0)) == ""  # not judged
    few = watched(150, values=[100.0] * 150, of=model(profile=profile))
    assert few.verdict(GATES) == ""


def test_drift_of_numbers_that_are_mostly_one():
    trained = np.where(RNG.random(5_000) < 0.7, 0.0, RNG.normal(3, 1, 5_000))
    again = np.where(RNG.random(3_000) < 0.7, 0.0, RNG.normal(3, 1, 3_000))
    watch = watched(3_000, values=again.tolist(), of=model(profile=profile_of(trained)))
    assert watch.figures["drift"] < 0.05


def test_drift_of_classes():
    profile = Profile("text", 100, top=(("good", 90), ("bad", 10)))
    of = model("classification", profile, ("bad", "good"))
    as_trained = ["bad" if at % 10 == 0 else "good" for at in range(1_000)]
    assert watched(1_000, values=as_trained, of=of).figures["drift"] < 0.01
    assert "drift" in watched(1_000, values=["bad"] * 1_000, of=of).verdict(GATES)


def test_the_index_is_its_definition():
    drift = Drift((0.0,), (), (0.5, 0.5))
    for value in [-1.0] * 80 + [1.0] * 20:
        drift.add(value)
    expected = (0.8 - 0.5) * np.log(0.8 / 0.5) + (0.2 - 0.5) * np.log(0.2 / 0.5)
    assert drift.index == pytest.approx(expected)


def test_what_has_no_profile_is_not_judged():
    assert Drift.of(model().manifest) is None
    assert Drift.of(model("classification", Profile("number", 5, (1.0,)), ("a",)).manifest) is None
    watch = watched(500, values=[9.0] * 500)
    assert watch.verdict(GATES) == ""
    assert "drift" not in watch.figures
