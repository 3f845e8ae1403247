"""The edge distribution as it is installed: its wheel in an empty environment, for this processor and for arm64."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
UV = Path(sys.executable).parent / "uv"
BASE = {"kepler-edge", "numpy", "onnxruntime", "paho-mqtt", "pynacl"}
# What those bring along; a new name here is a new thing on every gateway.
BROUGHT = {"cffi", "flatbuffers", "packaging", "protobuf", "pycparser"}
LIMIT_MB = 200

# Every module but the inputs of the extras, then what came into memory with them.
IMPORTS = """
import importlib, pkgutil, sys
import kepler_edge
for module in pkgutil.walk_packages(kepler_edge.__path__, "kepler_edge."):
    if not module.name.endswith("__main__") and not {"sparkplug", "edgehub", "edgehub_pb2", "predict_rows"} & set(module.name.split(".")):
        importlib.import_module(module.name)
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"kepler", "grpc", "google", "onnx", "cryptography", "pydantic", "requests"}))
"""


def uv(*arguments: object, offline: bool = True) -> subprocess.CompletedProcess[str]:
    """From what is at hand first; the registry is only asked for what is not."""
    command = [str(UV), *map(str, arguments), *(["--offline"] if offline else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode and offline:
        return uv(*arguments, offline=False)
    return done


def reached(done: subprocess.CompletedProcess[str]) -> None:
    """Skip where the package registry cannot be reached; fail for anything else."""
    if done.returncode and re.search(r"(?i)failed to fetch|dns|connect|timed? ?out|network", done.stderr):
        pytest.skip("the package registry cannot be reached")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = uv(
        "build",
        "--wheel",
        "--no-build-isolation",
        "--python",
        sys.executable,
        "--out-dir",
        folder,
        "edge_agent",
    )
    assert done.returncode == 0, done.stderr
    [found] = folder.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert all(name.startswith(("kepler_edge/", "kepler_edge-")) for name in names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert "kepler-edge = kepler_edge.main:run" in entry


def test_it_runs_in_an_empty_environment_with_its_base_alone(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    reached(uv("venv", "--quiet", "--python", sys.executable, home))
    reached(
        uv("pip", "install", "--quiet", "--link-mode", "hardlink", "--python", home / "bin" / "python", wheel)
    )
    listed = uv("pip", "list", "--python", home / "bin" / "python", "--format", "freeze").stdout
    assert {line.partition("==")[0] for line in listed.split()} <= BASE | BROUGHT
    said = subprocess.run(
        [home / "bin" / "kepler-edge", "version"], capture_output=True, text=True, check=True
    ).stdout
    assert '"version"' in said
    done = subprocess.run(
        [home / "bin" / "python", "-c", IMPORTS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    size = (
        sum(path.stat().st_size for path in home.rglob("*") if path.is_file() and not path.is_symlink())
        / 2**20
    )
    print(f"installed: {size:.0f} MB ({listed.split()})")
    assert size < LIMIT_MB


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_there_is_a_wheel_of_everything_for_arm64(python: str) -> None:
    done = uv(
        "pip", "compile", "edge_agent/pyproject.toml", "--quiet", "--only-binary", ":all:", "--no-header",
        "--python-platform", "aarch64-manylinux_2_28", "--python-version", python, "--no-annotate",
    )  # fmt: skip
    reached(done)
    assert BASE - {"kepler-edge"} <= {line.partition("==")[0] for line in done.stdout.split()}
