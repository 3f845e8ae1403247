"""A service double on loopback, named by the environment as outside Splunk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.splunkd import Splunkd
from fakes.splunkd.interpreters import InterpreterMissing, find_python
from integration.splunk_app.search_head import TOKEN, configure, search_head
from integration.splunk_app.talk import Double, make_certificate


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings but the test's own; gives SPLUNK_HOME."""
    for name in [name for name in os.environ if name.startswith("KEPLER_")]:
        monkeypatch.delenv(name)
    (tmp_path / "home/var/log/splunk").mkdir(parents=True)
    monkeypatch.setenv("SPLUNK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    with Double() as double:
        monkeypatch.setenv("KEPLER_ADDRESS", double.address)
        yield double


@pytest.fixture
def splunkd(built_app: Path) -> Iterator[Splunkd]:
    with search_head(built_app) as found:
        yield found


@pytest.fixture
def secure(splunkd: Splunkd) -> Iterator[Double]:
    """A service with TLS that the app is configured for."""
    ca, _, issuer = make_certificate(names=("Test CA",))
    certificate, key, _ = make_certificate(issuer=issuer)
    service = Double(token=TOKEN)
    configure(splunkd, address=service.secure(certificate, key), ca_certificate=ca.decode())
    with service:
        yield service


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
