"""The command line in this process, against a service that speaks the protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes.service_double import ServiceDouble
from kepler.adapters.cli.main import main


@dataclass
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceDouble]:
    with ServiceDouble() as double:
        monkeypatch.setenv("KEPLER_ADDRESS", double.address)
        monkeypatch.setenv("COLUMNS", "200")
        yield double


@pytest.fixture
def kepler(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def run(*arguments: str | Path) -> Ran:
        capfd.readouterr()
        code = main([str(item) for item in arguments])
        said = capfd.readouterr()
        return Ran(code, said.out, said.err)

    return run


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text('a,text,y\n1,"x, y",0\n2,"line\nbreak",1\n')
    return path
