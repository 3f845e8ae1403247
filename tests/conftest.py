"""What every test may use. The unit and property folders run with sockets blocked."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from fakes.splunkd.interpreters import InterpreterMissing, find_python
from support.running_service import RunningService, running

ROOT = Path(__file__).resolve().parent.parent

# Tests assert no wall time: a busy machine, or the measuring of coverage, is no failure. pytest-timeout ends what hangs.
settings.register_profile("kepler", deadline=None)
settings.load_profile("kepler")


def _shared() -> Path | None:
    """The folder that holds ``data/`` and ``recordings/``: KEPLER_TEST_DATA, else ``../shared``."""
    folder = Path(os.environ.get("KEPLER_TEST_DATA") or ROOT.parent / "shared")
    return folder if (folder / "data" / "manifest.json").is_file() else None


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data and recorded Splunk sessions; skips where it is missing."""
    folder = _shared()
    if folder is None:
        pytest.skip("no real data here: set KEPLER_TEST_DATA to the folder that holds data/ and recordings/")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(params=["3.9", "3.13"])
def splunk_python(request: pytest.FixtureRequest) -> str:
    """The path of a CPython that Splunk ships; skips where it is missing."""
    try:
        return find_python(request.param)
    except InterpreterMissing as missing:
        pytest.skip(str(missing))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Unit and property tests open no socket and end within 10 s; `full` runs only when asked for."""
    wanted = config.getoption("-m") or ""
    # 10 s is for a quiet machine; a busy one, or one that measures coverage, is slower in proportion.
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    limit_s = 10 * busy * (4 if sys.gettrace() or "COVERAGE_PROCESS_START" in os.environ else 1)
    for item in items:
        parts = Path(item.fspath).relative_to(ROOT).parts if Path(item.fspath).is_relative_to(ROOT) else ()
        if len(parts) > 1 and parts[1] in ("unit", "property"):
            item.add_marker(pytest.mark.disable_socket)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(limit_s))
        if item.get_closest_marker("full") and "full" not in wanted:
            item.add_marker(pytest.mark.skip(reason="long counts: make test-full"))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One running service for tests that only add models of their own names to it."""
    with running(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.fixture(scope="session")
def app_dir() -> Path:
    """The built Splunk app, as Splunk would install it."""
    folder = ROOT / "build" / "app" / "kepler"
    if not (folder / "default" / "commands.conf").is_file():
        pytest.fail("the app is not built: run `make app`")
    return folder
