"""A PostgreSQL of our own for one test run, from the programs Debian installs; on a Unix socket only."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def _program(name: str) -> str | None:
    """On PATH, else where Debian puts it (newest version first)."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name) or next((str(at / name) for at in places if (at / name).is_file()), None)


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    pytest.skip("no unprivileged user to run PostgreSQL as")


@contextmanager
def running_postgres() -> Iterator[str]:
    """URL of a fresh database. Skips where PostgreSQL is not installed."""
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed (apt: postgresql)")
    who = _unprivileged()
    # Not pytest's folder: only its owner may enter that, and a socket's path may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="kepler-pg-", ignore_cleanup_errors=True) as text:
        folder = Path(text)
        if who:
            os.chown(folder, who["user"], who["group"])
        data = folder / "data"

        def do(*command: str) -> None:
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, **who)
            assert done.returncode == 0, f"{command[0]}: {done.stderr}{_log(folder)}"

        do(initdb, "-D", str(data), "-U", "kepler", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=60"
        do(pg_ctl, "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://kepler@/postgres?host={folder}"
        finally:
            do(pg_ctl, "-D", str(data), "-w", "-m", "immediate", "stop")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a PostgreSQL that lives as long as the test run."""
    with running_postgres() as url:
        yield url


@contextmanager
def fresh_database(url: str, name: str, template: str = "template0") -> Iterator[str]:
    """A database of its own in the cluster at ``url``, a copy of ``template``."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield url.replace("/postgres?", f"/{name}?")
    finally:
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _log(folder: Path) -> str:
    path = folder / "log"
    return path.read_text() if path.is_file() else ""
