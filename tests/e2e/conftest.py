"""One service and one stand-in for the whole folder; every test uses model names of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from e2e.real_sets import lookups
from fakes.splunkd import Splunkd, has_python
from support.running_service import RunningService

Standin = Callable[..., AbstractContextManager[Splunkd]]


@pytest.fixture(scope="session")
def python() -> str | None:
    """The Python that Splunk 9 runs commands with, or the running one where it is missing."""
    return "3.9" if has_python("3.9") else None


@pytest.fixture(scope="session")
def installed(app_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built app, in a copy: a build while the tests run changes nothing under them."""
    copy = tmp_path_factory.mktemp("apps") / "kepler"
    shutil.copytree(app_dir, copy)
    return copy


@pytest.fixture(scope="session")
def standin(installed: Path, python: str | None) -> Standin:
    """Makes a stand-in for a service at an address: ``standin(address, lookups=..., python=..., env=...)``."""

    def make(address: str, **options: object) -> Splunkd:
        env = {"KEPLER_ADDRESS": address, **dict(options.pop("env", {}))}  # type: ignore[call-overload]
        chosen = {"lookups": lookups(), "python": python, "listen": False, **options}
        return Splunkd(apps=[installed], env=env, **chosen)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def splunkd(service: RunningService, standin: Standin) -> Iterator[Splunkd]:
    """The stand-in on the session's service, with the bundled sets as lookups."""
    with standin(service.grpc) as found:
        yield found
