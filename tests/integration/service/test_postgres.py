"""The whole path with jobs and registry in PostgreSQL, by one setting."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from fakes.postgres import running_postgres
from kepler.core.jobs import JobState
from support.canaries import files_of, found_in, processes_of
from support.running_service import running
from support.service_client import Line, connect, ended, predict_one, train, trained

PASSWORD = "password-canary-91ac27"


@pytest.mark.timeout(400)  # MLflow makes its tables there; the first job waits for them
def test_train_predict_and_alias_on_postgres(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running_postgres() as url:
        env = {
            "KEPLER_DATABASE_URL": url.replace("kepler@", f"kepler:{PASSWORD}@"),
            "KEPLER_LOG__LEVEL": "debug",
        }
        with running(home, env=env) as service, connect(service) as client:
            assert trained(client, "app:pg") == "app.search/pg@1"
            assert trained(client, "app:pg", line=Line(4)) == "app.search/pg@2"
            client.set_alias("app:pg@1", "prod")
            assert Line(2).says(8, 1, predict_one(client, "app:pg@prod", 8, 1)[1].values)
            client.set_alias("app:pg@2", "prod")
            assert Line(4).says(8, 1, predict_one(client, "app:pg@prod", 8, 1)[1].values)
            assert client.rollback("app:pg", "prod").version == 1
            late = train(client, "app:pg", request_id="late")
            places = processes_of(service.pid)
            service.kill()
        with running(home, env=env) as service, connect(service) as client:
            record = ended(client, late)
            assert (record.state, record.model) == (JobState.SUCCEEDED, "app.search/pg@3")
            assert client.model("app:pg@prod").version == 1
            assert [version.version for version in client.versions("app:pg")] == [3, 2, 1]
            assert service.stop() == 0
        assert not list(home.glob("jobs.sqlite*"))
        assert not list(home.glob("mlflow.sqlite*"))
        places |= files_of(home) | tables(url)
    assert b"app.search~pg" in places["table public.registered_models"]
    assert found_in(places, {"password": PASSWORD}) == []


def tables(url: str) -> dict[str, bytes]:
    """Every row of every table of ours, as text."""
    found: dict[str, bytes] = {}
    with psycopg.connect(url) as db:
        names = db.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' "
            "AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for schema, name in names:
            query = sql.SQL("SELECT t::text FROM {}.{} t").format(
                sql.Identifier(schema), sql.Identifier(name)
            )
            found[f"table {schema}.{name}"] = repr(db.execute(query).fetchall()).encode()
    return found
