"""The same tests of pure logic under the Pythons that Splunk ships, and the doctests of the app."""

from __future__ import annotations

import doctest
import importlib
import os
import subprocess
from pathlib import Path

import pytest

from fakes.splunkd.interpreters import InterpreterMissing, find_python

HERE = Path(__file__).resolve().parent
FILES = ["test_chunks.py", "test_grammar.py", "test_lexer.py", "test_rows.py", "test_searchinfo.py"]
DOCTESTED = ["errors", "lexer", "logs", "rows", "settings"]


@pytest.mark.splunk_python
@pytest.mark.timeout(60)
@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_pure_logic_under_splunks_python(version: str, root: Path) -> None:
    try:
        python = find_python(version)
    except InterpreterMissing as missing:
        pytest.skip(str(missing))
    paths = [root / "splunk_app/package/bin", root / "tests"]
    done = subprocess.run(
        [python, "-W", "error", "-m", "unit.splunk_app.plain", *(str(HERE / name) for name in FILES)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert f"passed under {version}" in done.stdout
    assert int(done.stdout.split()[0]) > 60


@pytest.mark.parametrize("name", DOCTESTED)
def test_docstrings_show_the_truth(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"kepler_app.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
