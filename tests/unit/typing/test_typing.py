"""The SDK's types, as pyright sees them from a user's program."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="module")
def findings(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> list[dict[str, Any]]:
    """What pyright finds in the programs, in one run."""
    pytest.importorskip("pyright")
    service = Path(request.config.rootpath) / "service"
    # Beside a configuration of their own: the repository's would decide otherwise.
    folder = shutil.copytree(PROGRAMS, tmp_path_factory.mktemp("pyright") / "programs")
    config = folder / "pyrightconfig.json"
    settings = {"extraPaths": [str(service)], "typeCheckingMode": "strict"}
    config.write_text(json.dumps(settings | {"pythonVersion": "3.11", "reportUnusedExpression": False}))
    command = [
        sys.executable,
        "-m",
        "pyright",
        "--outputjson",
        "--pythonpath",
        sys.executable,
        "-p",
        str(config),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(ran.stdout)
    assert report["summary"]["filesAnalyzed"] == 2, ran.stderr
    return [item for item in report["generalDiagnostics"] if item["severity"] == "error"]


@pytest.mark.timeout(120)
def test_a_users_program_type_checks(findings: list[dict[str, Any]]) -> None:
    said = [item["message"] for item in findings if Path(item["file"]).name == "uses_the_sdk.py"]
    assert said == []


@pytest.mark.timeout(120)
def test_every_mistake_is_found_and_nothing_else(findings: list[dict[str, Any]]) -> None:
    program = PROGRAMS / "misuses_the_sdk.py"
    wrong = {number for number, line in enumerate(program.read_text().splitlines()) if "# wrong" in line}
    found = {item["range"]["start"]["line"] for item in findings if Path(item["file"]).name == program.name}
    assert found == wrong
