"""The CPython that Splunk ships, and an environment of it for the baselines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from fakes.splunkd.interpreters import InterpreterMissing, find_python  # noqa: E402

APP = ROOT / "build" / "app" / "kepler"


def interpreter(version: str = "3.9") -> str:
    """Full path of that CPython; ends the benchmark with what to install when it is missing."""
    try:
        return find_python(version)
    except InterpreterMissing as error:
        sys.exit(str(error))


def baseline_python() -> str:
    """CPython 3.9 with splunklib and scikit-learn, made once under build/."""
    folder = ROOT / "build" / "bench-env"
    python = folder / "bin" / "python"
    wanted = (ROOT / "benchmarks/baselines/requirements.txt").read_text()
    stamp = folder / "requirements.txt"
    if not stamp.is_file() or stamp.read_text() != wanted:
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", interpreter(), str(folder)], check=True)
        source = str(ROOT / "benchmarks/baselines/requirements.txt")
        command = [uv, "pip", "sync", "--quiet", "--python", str(python), "--require-hashes", source]
        subprocess.run(command, check=True)
        stamp.write_text(wanted)
    return str(python)


def app_script(name: str) -> str:
    script = APP / "bin" / f"{name}.py"
    if not script.is_file():
        sys.exit("The app is not built: run `make app` first.")
    return str(script)
