"""Every error class is in every adapter's table, and the page that shows them is current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kepler.adapters.cli.exit_codes import EXIT_CODES
from kepler.adapters.http.problems import STATUS
from kepler.client.errors import GRPC_CODES
from kepler.core.errors import ALL_ERRORS, BY_CODE, InvalidInput, KeplerError, nearest


@pytest.mark.parametrize("table", [GRPC_CODES, STATUS, EXIT_CODES], ids=["grpc", "http", "exit codes"])
def test_tables_are_whole(table):
    assert set(table) == set(ALL_ERRORS)


def test_all_classes_are_listed():
    assert set(KeplerError.__subclasses__()) == set(ALL_ERRORS)
    assert set(BY_CODE) == {kind.__name__ for kind in ALL_ERRORS}


def test_an_error_is_whole_sentences():
    error = InvalidInput("It is wrong", cause="Because", fix="Do it right!")
    assert str(error) == "It is wrong. Because. Do it right!"
    assert error.code == "InvalidInput"
    assert nearest("lightgmb", ["Ridge", "LightGBM"], 1) == ["LightGBM"]


def test_the_page_is_current(root: Path):
    done = subprocess.run([sys.executable, "tools/make_error_docs.py", "--check"], cwd=root, check=False)
    assert done.returncode == 0
