"""How an algorithm is described to people."""

from __future__ import annotations

import pytest

from kepler.adapters.cli import algorithms
from kepler.client.records import AlgorithmDescription, AlgorithmParam


def test_an_algorithm_that_is_not_installed_and_its_ranges(capsys: pytest.CaptureFixture[str]) -> None:
    params = (
        AlgorithmParam("a", "choice", choices=("x", "y")),
        AlgorithmParam("b", "int", low="1"),
        AlgorithmParam("c", "int", high="9"),
        AlgorithmParam("d", "bool"),
    )
    algorithms._describe(AlgorithmDescription("N", ("regression",), "Text.", ("n",), params, "extra", False))
    said = capsys.readouterr().out
    for part in ("also called n", "kepler-for-splunk[extra]", "x | y", "at least 1", "at most 9"):
        assert part in said


def test_an_algorithm_without_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    algorithms._describe(AlgorithmDescription("M", ("regression",), "Text."))
    assert "parameter" not in capsys.readouterr().out
