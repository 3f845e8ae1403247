"""MLflow's tables: at once on SQLite, by MLflow's own migrations elsewhere.

MLflow builds a new database by running its migrations one after the other, after an import that takes
seconds. A new home gets the result at once, from ``schema_sqlite.sql``, and MLflow is not imported. That text
carries the revision it ends at; `mlflow_schema` makes it anew, and a test compares.

Run as a program, this module migrates the database whose URL comes on its standard input, in a process of its
own, so that MLflow's import costs the service neither memory nor the interpreter's lock.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from kepler.core.errors import NotReady

TEMPLATE = Path(__file__).with_name("schema_sqlite.sql")
MIGRATION_TIMEOUT_S = 600.0
_INIT_LOCK = 0x6B65706C6572  # PostgreSQL advisory lock, "kepler": services that start together take turns


def create_sqlite(path: Path) -> bool:
    """Make MLflow's tables in ``path`` if it has none; says whether it did. Whole or not at all.

    The caller holds the store's lock.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as db:
        # Searches read while a training writes: only WAL lets them, and the file remembers it.
        db.execute("PRAGMA journal_mode = WAL")
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return False
        db.executescript(f"BEGIN IMMEDIATE;\n{TEMPLATE.read_text('utf-8')}\nCOMMIT;")
    path.chmod(0o600)
    return True


def template_revision() -> str:
    """The revision of MLflow's schema that this release was made with."""
    found = re.search(r"INSERT INTO \"?alembic_version\"? VALUES\('(\w+)'\)", TEMPLATE.read_text("utf-8"))
    assert found is not None, "schema_sqlite.sql names no revision"
    return found[1]


def revision(url: str) -> str:
    """The revision a database is at; empty when it has no tables of MLflow."""
    engine = sa.create_engine(url)
    try:
        with engine.connect() as db:
            return str(db.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() or "")
    except SQLAlchemyError:
        return ""
    finally:
        engine.dispose()


def migrate(url: str) -> None:
    """Bring a database to the installed MLflow's revision in a process of its own. Raises `NotReady`."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=url,  # not an argument: it may hold a password
            capture_output=True,
            text=True,
            timeout=MIGRATION_TIMEOUT_S,
            check=False,
        )
        said = done.stderr.strip().splitlines()
        failure = "" if done.returncode == 0 else said[-1] if said else f"exit status {done.returncode}"
    except subprocess.TimeoutExpired:
        failure = f"not done after {MIGRATION_TIMEOUT_S} s"
    if failure:
        raise NotReady(
            "The model store's database could not be prepared",
            cause=failure[:300].replace(url, "its URL"),
            fix="Check that the database answers and that its user may create tables, then start again.",
        )


def migrate_here(url: str) -> None:
    """Create or upgrade MLflow's tables, SQLite after a copy. Leaves a newer MLflow's database alone."""
    engine = sa.create_engine(url)
    try:
        with engine.connect() as lock:  # before the slow import: a wrong URL is said at once
            quiet_mlflow()
            from alembic.script import ScriptDirectory
            from alembic.util import CommandError
            from mlflow.store.db import utils

            if engine.dialect.name == "postgresql":
                lock.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _INIT_LOCK})
            present = utils._get_schema_version(engine)
            if present is None and not sa.inspect(engine).has_table("experiments"):
                # MLflow asks whether the database is empty; ours may hold the tables of the jobs already.
                utils._initialize_tables(engine)
                return
            if present is None or present == utils._get_latest_schema_revision():
                return
            try:
                ScriptDirectory.from_config(utils._get_alembic_config(url)).get_revision(present)
            except CommandError:
                return
            if engine.dialect.name != "sqlite":
                raise SystemExit(
                    f"it is at revision {present}; back it up and run `mlflow db upgrade` with its URL"
                )
            path = Path(str(sa.make_url(url).database))
            copy = path.with_name(f"{path.name}.{present}")
            copy.unlink(missing_ok=True)
            lock.rollback()
            lock.exec_driver_sql("VACUUM INTO ?", (str(copy),))
            lock.rollback()
            utils._upgrade_db(engine)
    finally:
        engine.dispose()  # ends the session, and with it the advisory lock


def mlflow_schema() -> str:
    """The tables as the installed MLflow's migrations make them, as SQL for SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.sqlite"
        migrate_here(f"sqlite:///{path}")
        with closing(sqlite3.connect(path)) as db:
            lines = [line for line in db.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;")]
    return "\n".join(line.rstrip() for text in lines for line in text.splitlines()) + "\n"


def quiet_mlflow() -> None:
    """Before MLflow is imported: no telemetry, no handlers on our streams, no progress."""
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MLFLOW_CONFIGURE_LOGGING="false")
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write-template"]:
        TEMPLATE.write_text(mlflow_schema(), "utf-8")
    else:
        migrate_here(sys.stdin.read().strip())
