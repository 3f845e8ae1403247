"""A service double on loopback, named by the environment as outside Splunk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.splunkd.interpreters import InterpreterMissing, find_python
from integration.splunk_app.talk import Double


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings but the test's own; gives SPLUNK_HOME."""
    for name in ("KEPLER_ADDRESS", "KEPLER_TOKEN", "KEPLER_CA_FILE", "KEPLER_TRANSFER"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home/var/log/splunk").mkdir(parents=True)
    monkeypatch.setenv("SPLUNK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    with Double() as double:
        monkeypatch.setenv("KEPLER_ADDRESS", double.address)
        yield double


@pytest.fixture(scope="session")
def built_app(root: Path) -> Path:
    """The app as Splunk installs it."""
    subprocess.run([sys.executable, str(root / "tools/build_app.py")], check=True, capture_output=True)
    return root / "build/app/kepler"


@pytest.fixture(params=["3.9", "3.13"])
def splunk_python(request: pytest.FixtureRequest) -> str:
    """A CPython that Splunk ships."""
    try:
        return find_python(request.param)
    except InterpreterMissing as missing:
        pytest.skip(str(missing))
