"""MLflow's tables, made without importing MLflow.

MLflow builds a new database by running its migrations one after the other, after an import that takes
seconds. A new home gets the result of that at once, from ``schema_sqlite.sql``. `mlflow_schema` makes that
text anew (``python -m kepler.adapters.mlflow.schema``); a test compares. The text carries the revision it
ends at, so a newer MLflow goes on from there with its own migrations.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

TEMPLATE = Path(__file__).with_name("schema_sqlite.sql")


def create_sqlite(path: Path) -> bool:
    """Make MLflow's tables in ``path`` if it has none; says whether it did. Whole or not at all.

    The caller holds the store's lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as db:
        # Searches read while a training writes: only WAL lets them, and the file remembers it.
        db.execute("PRAGMA journal_mode = WAL")
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return False
        db.executescript(f"BEGIN IMMEDIATE;\n{TEMPLATE.read_text('utf-8')}\nCOMMIT;")
    path.chmod(0o600)
    return True


def mlflow_schema() -> str:
    """The tables as the installed MLflow's migrations make them, as SQL for SQLite."""
    from kepler.adapters.mlflow.writer import quiet_mlflow

    quiet_mlflow()
    import sqlalchemy as sa
    from mlflow.store.db.utils import _initialize_tables

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.sqlite"
        engine = sa.create_engine(f"sqlite:///{path}")
        _initialize_tables(engine)
        engine.dispose()
        with closing(sqlite3.connect(path)) as db:
            lines = [line for line in db.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;")]
    return "\n".join(line.rstrip() for text in lines for line in text.splitlines()) + "\n"


if __name__ == "__main__":
    TEMPLATE.write_text(mlflow_schema(), "utf-8")
