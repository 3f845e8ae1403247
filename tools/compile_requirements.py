"""Compile requirements/*.txt from pyproject.toml: exact versions with hashes and no addresses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).parent / "uv"
COMMON = ["--python-version", "3.11", "--generate-hashes", "--no-emit-index-url", "--no-annotate", "--quiet"]
SETS = {
    "bootstrap.txt": ["requirements/bootstrap.in"],
    "dev.txt": ["pyproject.toml", "--all-extras", "--group", "dev"],
    "service.txt": [
        "pyproject.toml",
        "--extra",
        "service",
        "--extra",
        "boosters",
        "--extra",
        "splunk",
        "--extra",
        "edge",
    ],
    # The agent's container: its base, and with what the Edge Hub and Sparkplug B need.
    "edge.txt": ["edge_agent/pyproject.toml"],
    "edge-hub.txt": ["edge_agent/pyproject.toml", "--all-extras"],
}


def main() -> int:
    for name, sources in SETS.items():
        pinned = [] if name in ("bootstrap.txt", "dev.txt") else ["--constraint", "requirements/dev.txt"]
        command = [
            str(UV),
            "pip",
            "compile",
            *sources,
            *COMMON,
            *pinned,
            "--output-file",
            f"requirements/{name}",
        ]
        subprocess.run([*command, "--custom-compile-command", "make requirements"], check=True, cwd=ROOT)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
