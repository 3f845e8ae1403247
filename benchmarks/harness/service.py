"""A service on a home of its own, for the length of one benchmark."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_READY = re.compile(r"kepler ready grpc=(\S+) http=(\S+)")


@dataclass(frozen=True)
class Service:
    grpc: str
    http: str
    home: Path
    pid: int


@contextmanager
def service(**env: str) -> Iterator[Service]:
    """Start ``kepler serve`` on free ports and a temporary home; stop it by SIGTERM afterwards."""
    home = Path(tempfile.mkdtemp(prefix="kepler-bench-"))
    log = (home / "stderr.log").open("wb")
    command = [sys.executable, "-m", "kepler", "serve", "--home", str(home)]
    process = subprocess.Popen(
        [*command, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=log,
        env={**os.environ, **env},
        text=True,
    )
    try:
        assert process.stdout
        for line in process.stdout:
            found = _READY.search(line)
            if found:
                yield Service(found[1], found[2], home, process.pid)
                break
        else:
            raise RuntimeError(f"the service did not start: {(home / 'stderr.log').read_text()[-3000:]}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            log.close()
            shutil.rmtree(home, ignore_errors=True)
