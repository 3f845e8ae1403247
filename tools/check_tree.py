"""Fail when a tracked file names a package registry's host or holds what looks like a private key or token."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Written in pieces so that this file passes its own check.
BANNED = {
    "a package registry's host": re.compile(
        rb"py" rb"pi\.org|python" rb"hosted\.org|deb\.deb" rb"ian\.org|registry\.npm" rb"js\.org"
    ),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE" rb" KEY-----\n[A-Za-z0-9+/]{20}"),
    "a token": re.compile(rb"\bkp_[A-Za-z0-9]{6,}_[A-Za-z0-9_-]{43}\b"),
}


def main() -> int:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.split(
        b"\0"
    )
    bad: list[str] = []
    for name in filter(None, names):
        path = ROOT / name.decode()
        if path.is_file() and path.stat().st_size < 2_000_000:
            data = path.read_bytes()
            bad += [
                f"{name.decode()} holds {what}" for what, pattern in BANNED.items() if pattern.search(data)
            ]
    sys.stderr.writelines(line + "\n" for line in bad)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
