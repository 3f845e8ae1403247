"""MLflow's tables are made in a database that holds other tables already."""

import sqlite3
from contextlib import closing
from pathlib import Path

from kepler.adapters.mlflow import schema


def test_tables_are_made_beside_those_of_the_jobs(tmp_path: Path) -> None:
    """With PostgreSQL jobs and registry share a database, and the jobs are there first."""
    path = tmp_path / "shared.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE kepler_jobs (id TEXT)")
        db.commit()
    schema.migrate(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as db:
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"kepler_jobs", "registered_models", "alembic_version"} <= names
    assert schema.revision(f"sqlite:///{path}") == schema.template_revision()
