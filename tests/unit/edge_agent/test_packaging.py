"""The files that plain gateways run: what they must say, whatever else changes."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from kepler_edge import __version__
from kepler_edge.settings import load

PACKAGING = Path(__file__).resolve().parents[3] / "edge_agent" / "packaging"
ROOT = PACKAGING.parents[1]


def test_compose_bounds_and_locks_in_the_agent() -> None:
    text = (PACKAGING / "compose" / "docker-compose.yaml").read_text()
    service = yaml.safe_load(text)["services"]["kepler-edge"]
    assert service["image"] == f"kepler-edge:{__version__}"
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["deploy"]["resources"]["limits"] == {"cpus": "0.5", "memory": "256M"}
    assert service["volumes"] == ["state:/var/lib/kepler-edge"]
    assert service["user"] == "10001:10001"
    assert {"privileged", "devices", "ports"}.isdisjoint(service)
    dockerfile = (
        PACKAGING / "compose" / service["build"]["context"] / service["build"]["dockerfile"]
    ).resolve()
    assert dockerfile == PACKAGING / "Containerfile"


def test_the_example_environment_is_read_by_the_agent() -> None:
    lines = (PACKAGING / "compose" / "environment.example").read_text().splitlines()
    env = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    settings = load(env=env, barbara=Path("/nowhere"))
    assert settings.device == "press-7"
    assert settings.inputs[0]["kind"] == "mqtt"


def test_the_container_runs_as_nobody_with_pinned_packages() -> None:
    text = (PACKAGING / "Containerfile").read_text()
    stages = text.split("\nFROM ")
    assert "USER 10001:10001" in stages[-1]
    assert "slim-bookworm" in stages[-1]
    assert text.count("--require-hashes") == 2
    assert "alpine" not in text
    for name in re.findall(r"(?:requirements|edge_agent)/[\w./-]+", text):
        if "$" not in name and "packaging" not in name:
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("name", ["edge.txt", "edge-hub.txt"])
def test_pinned_packages_are_what_the_distribution_asks_for(name: str) -> None:
    project = tomllib.loads((ROOT / "edge_agent" / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    asked = list(project["dependencies"])
    if name == "edge-hub.txt":
        asked += [item for items in project["optional-dependencies"].values() for item in items]
    text = (ROOT / "requirements" / name).read_text()
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", text, re.MULTILINE))
    assert {re.split(r"[<>=]", item)[0] for item in asked} <= set(pinned)
    assert text.count("--hash=sha256:") >= 2 * len(
        pinned
    )  # at least one file for each processor, or the source


def test_the_unit_restarts_bounds_and_locks_in_the_agent() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(PACKAGING / "kepler-edge.service")
    service = unit["Service"]
    assert service["Restart"] == "always"
    assert service["MemoryMax"] == "256M"
    assert service["User"] == "kepler-edge"
    assert service["NoNewPrivileges"] == "yes"
    assert service["StateDirectory"] == "kepler-edge"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = (PACKAGING / "kepler-edge.service").read_text()
    there = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
    (tmp_path / "kepler-edge.service").write_text(there)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(tmp_path / "kepler-edge.service")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "kepler-edge.service" not in done.stderr, done.stderr
