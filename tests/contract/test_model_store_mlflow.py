"""What MLflow's own client sees of our store, and what its tables must be for that."""

from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fakes.mlflow_import import import_mlflow
from fakes.model_store import make_outcome, make_spec, write_draft
from fakes.signer import FakeSigner
from kepler.adapters.mlflow import schema
from kepler.adapters.mlflow.store import MlflowModelStore
from kepler.core.errors import Conflict, NotFound, NotReady, Overloaded, Unavailable
from kepler.core.names import ModelName, parse_ref
from kepler.core.versions import VersionRecord

PUMP = ModelName("app", "search", "pump")


class FixedClock:
    def now(self) -> float:
        return 1_700_000_000.1234


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Iterator[MlflowModelStore]:
    store = MlflowModelStore(home, FakeSigner(), FixedClock())
    store.start()
    yield store
    store.close()


def train(
    store: MlflowModelStore, folder: Path, job: str, metrics: Any = None, **changes: Any
) -> VersionRecord:
    spec = make_spec(job, **changes)
    outcome = make_outcome() if metrics is None else make_outcome(metrics=metrics)
    return store.register(spec, outcome, write_draft(folder / job, spec))


@pytest.fixture
def client(home: Path) -> Iterator[Any]:
    """MLflow's own client on our database."""
    import_mlflow()
    from mlflow import MlflowClient
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

    url = f"sqlite:///{home / 'mlflow.sqlite'}"
    yield MlflowClient(tracking_uri=url, registry_uri=url)
    for kind in (Registry, Tracking):
        if engine := kind._engine_map.pop(url, None):
            engine.dispose()


def test_mlflows_client_sees_our_versions_aliases_metrics_and_params(
    store: MlflowModelStore, tmp_path: Path, client: Any
) -> None:
    first = train(store, tmp_path, "j1", tags=("line=7", "mlflow.user=eve", "kepler.record=x"))
    second = train(store, tmp_path, "j2", params={"depth": 3, "layers": [1, 2]})
    store.set_alias(PUMP, "prod", 1)
    store.set_alias(PUMP, "prod", 2)
    store.set_alias(PUMP, "old", 1)

    versions = {int(found.version): found for found in client.search_model_versions("name='app.search~pump'")}
    assert versions.keys() == {1, 2}
    assert [versions[1].run_id, versions[2].run_id] == [first.run_id, second.run_id]
    assert versions[1].source == first.folder
    assert versions[1].status == "READY"
    assert versions[1].creation_timestamp == 1_700_000_000_123
    assert versions[1].tags["line"] == "7"
    assert versions[1].tags["kepler.algorithm"] == "LinearRegression"
    assert int(client.get_model_version_by_alias("app.search~pump", "prod").version) == 2
    assert client.get_registered_model("app.search~pump").aliases == {"prod": 2, "old": 1}

    run = client.get_run(second.run_id)
    assert run.data.metrics == {"r2": 0.9, "rmse": 0.25}
    assert run.data.params["param.depth"] == "3"
    assert run.data.params["param.layers"] == "[1, 2]"
    assert run.data.params["algorithm"] == "LinearRegression"
    assert run.info.status == "FINISHED"
    assert run.info.user_id == "ana"
    assert run.info.run_name == "j2"
    assert run.data.tags["kepler.job_id"] == "j2"
    assert client.get_run(first.run_id).data.tags["mlflow.user"] == "ana"
    experiment = client.get_experiment_by_name("app.search~pump")
    assert run.info.experiment_id == experiment.experiment_id
    found = client.search_runs(
        [experiment.experiment_id], "metrics.r2 > 0.5 and params.algorithm LIKE 'Linear%'"
    )
    assert {item.info.run_id for item in found} == {first.run_id, second.run_id}
    assert [item.value for item in client.get_metric_history(second.run_id, "r2")] == [0.9]


def test_numbers_that_sql_lacks_and_names_that_mlflow_refuses(
    store: MlflowModelStore, tmp_path: Path, client: Any
) -> None:
    metrics = (("f1(macro)", 0.5), ("worst", math.inf), ("least", -math.inf), ("none", math.nan))
    made = train(store, tmp_path, "j1", metrics=metrics)
    shown = client.get_run(made.run_id).data.metrics
    assert shown["f1_macro_"] == 0.5
    assert shown["worst"] == sys.float_info.max
    assert shown["least"] == -sys.float_info.max
    assert math.isnan(shown["none"])
    kept = dict(store.resolve(parse_ref("pump", user="ana", app="search")).metrics)
    assert kept["worst"] == math.inf
    assert math.isnan(kept["none"])


def test_what_we_delete_is_gone_for_mlflow_and_its_number_stays_taken(
    store: MlflowModelStore, tmp_path: Path, client: Any
) -> None:
    first, second = train(store, tmp_path, "j1"), train(store, tmp_path, "j2")
    store.set_alias(PUMP, "prod", 2)
    store.delete(PUMP, None)
    assert client.search_model_versions("name='app.search~pump'") == []
    assert client.get_registered_model("app.search~pump").aliases == {}
    assert client.get_run(first.run_id).info.lifecycle_stage == "deleted"
    assert not Path(second.folder).exists()
    assert int(client.create_model_version("app.search~pump", "file:///elsewhere").version) == 3
    assert store.list_models() == []  # what others register there is no version of ours
    assert train(store, tmp_path, "j3").version == 4


def test_aliases_and_deletions_by_mlflows_client_are_respected(
    store: MlflowModelStore, tmp_path: Path, client: Any
) -> None:
    for number in (1, 2, 3):
        train(store, tmp_path, f"j{number}")
    store.set_alias(PUMP, "prod", 1)
    client.set_registered_model_alias("app.search~pump", "prod", "3")
    client.set_registered_model_alias("app.search~pump", "their", "2")
    assert store.resolve(parse_ref("pump@prod", user="ana", app="search")).version == 3
    assert store.resolve(parse_ref("pump@their", user="ana", app="search")).version == 2
    assert store.rollback(PUMP, "prod").version == 1
    client.delete_model_version("app.search~pump", "2")
    with pytest.raises(NotFound):
        store.resolve(parse_ref("pump@2", user="ana", app="search"))
    client.create_registered_model("no-name-of-ours")
    client.create_model_version("no-name-of-ours", "file:///elsewhere")
    assert [record.full_name for record in store.list_models()] == ["app.search/pump@3"]


def test_a_model_whose_experiment_was_deleted_in_mlflow_can_be_trained_again(
    store: MlflowModelStore, tmp_path: Path, client: Any
) -> None:
    train(store, tmp_path, "j1")
    client.delete_experiment(client.get_experiment_by_name("app.search~pump").experiment_id)
    made = train(store, tmp_path, "j2")
    assert client.get_experiment_by_name("app.search~pump").lifecycle_stage == "active"
    assert client.get_run(made.run_id).info.status == "FINISHED"


def test_the_template_is_what_the_installed_mlflow_makes() -> None:
    import_mlflow()
    assert _lines(schema.mlflow_schema()) == _lines(schema.TEMPLATE.read_text("utf-8")), (
        "run `python -m kepler.adapters.mlflow.schema --write-template` and look at the difference"
    )


def test_a_home_of_an_older_mlflow_is_copied_and_upgraded(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    path = home / "mlflow.sqlite"
    older = _revision_before(schema.template_revision())
    _make_at(path, older)
    store = MlflowModelStore(home, FakeSigner(), FixedClock())
    store.start()
    assert train(store, tmp_path, "j1").version == 1  # waits for the migration
    store.close()
    assert store.failure == ""
    assert schema.revision(f"sqlite:///{path}") == schema.template_revision()
    assert schema.revision(f"sqlite:///{path}.{older}") == older
    store = MlflowModelStore(home, FakeSigner(), FixedClock())
    store.start()
    assert store.ready
    assert train(store, tmp_path, "j2").version == 2
    store.close()


def test_a_database_that_no_migration_reaches_says_so(home: Path) -> None:
    store = MlflowModelStore(home, FakeSigner(), FixedClock(), url="postgresql://nobody@127.0.0.1:1/none")
    store.start()
    with pytest.raises(NotReady, match="being prepared"):
        store.resolve(parse_ref("pump", user="ana", app="search"))
    store.close()
    assert not store.ready
    assert "could not be prepared" in store.failure


def test_a_table_that_is_not_as_we_know_it_takes_no_row(
    store: MlflowModelStore, home: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(home / "mlflow.sqlite")) as db:
        db.execute("ALTER TABLE params RENAME COLUMN value TO text")
    with pytest.raises(NotReady, match="Table params has no column value"):
        train(store, tmp_path, "j1")
    with closing(sqlite3.connect(home / "mlflow.sqlite")) as db:
        db.execute("ALTER TABLE params RENAME COLUMN text TO value")
        db.execute("DROP TABLE registered_model_aliases")
        db.execute(
            "CREATE TABLE registered_model_aliases "
            "(alias TEXT, version INT, name TEXT, workspace TEXT, kind TEXT NOT NULL)"
        )
    with pytest.raises(NotReady, match="Table registered_model_aliases demands a column kind"):
        store.register(make_spec("j1"), make_outcome(), tmp_path / "j1")


@pytest.mark.parametrize(
    ("said", "error"), [("database or disk is full", Overloaded), ("something else", Unavailable)]
)
def test_a_database_that_takes_no_write_leaves_nothing_half_done(
    store: MlflowModelStore, home: Path, tmp_path: Path, said: str, error: type[Exception]
) -> None:
    with closing(sqlite3.connect(home / "mlflow.sqlite")) as db:
        db.execute(
            f"CREATE TRIGGER stop BEFORE INSERT ON model_versions BEGIN SELECT RAISE(ABORT, '{said}'); END"
        )
    with pytest.raises(error):
        train(store, tmp_path, "j1")
    with closing(sqlite3.connect(home / "mlflow.sqlite")) as db:
        for table in ("runs", "metrics", "params", "registered_models", "experiments"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        db.execute("DROP TRIGGER stop")
    made = store.register(make_spec("j1"), make_outcome(metrics=()), tmp_path / "gone")
    assert (made.version, made.metrics) == (1, ())


def test_a_read_that_fails_says_the_store_does_not_answer(store: MlflowModelStore, home: Path) -> None:
    with closing(sqlite3.connect(home / "mlflow.sqlite")) as db:
        db.execute("ALTER TABLE model_version_tags RENAME TO away")
    with pytest.raises(Unavailable, match="does not answer"):
        store.list_models()


def test_serving_a_model_never_imports_mlflow(tmp_path: Path) -> None:
    """Start, register, resolve, list and alias in a fresh interpreter."""
    script = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from fakes.mlflow_import import import_mlflow
from fakes.model_store import make_outcome, make_spec, write_draft
from fakes.signer import FakeSigner
from kepler.adapters.mlflow.store import MlflowModelStore
from kepler.core.names import parse_ref
class Clock:
    def now(self): return 1.0
home = Path(sys.argv[1])
store = MlflowModelStore(home, FakeSigner(), Clock())
store.start()
spec = make_spec("j1")
made = store.register(spec, make_outcome(), write_draft(home / "draft", spec))
store.set_alias(made.name, "prod", 1)
assert store.resolve(parse_ref("pump@prod", user="ana", app="search")).version == 1
store.close()
assert not [name for name in sys.modules if name.split(".")[0] in ("mlflow", "alembic", "pandas")]
"""
    tests = Path(__file__).resolve().parent.parent
    subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(tmp_path), str(tests)],
        check=True,
        env=dict(os.environ),
    )


def test_a_job_whose_version_was_deleted_is_not_registered_again(
    store: MlflowModelStore, tmp_path: Path
) -> None:
    train(store, tmp_path, "j1")
    store.delete(PUMP, 1)
    with pytest.raises(Conflict, match=r"Job j1 made version 1 of app\.search/pump, which was deleted since"):
        store.register(make_spec("j1"), make_outcome(), tmp_path / "j1")


def _lines(text: str) -> list[str]:
    """Migrations write the constraints of a table in an order that changes from run to run."""
    return sorted(line.strip().rstrip(",") for line in text.splitlines())


def _revision_before(revision: str) -> str:
    import_mlflow()
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils

    found = ScriptDirectory.from_config(utils._get_alembic_config("")).get_revision(revision)
    return str(found.down_revision)


def _make_at(path: Path, revision: str) -> None:
    """A database as an older MLflow left it: its first tables, migrated up to ``revision``."""
    import sqlalchemy as sa
    from alembic import command
    from mlflow.store.db import utils

    engine = sa.create_engine(f"sqlite:///{path}")
    utils.InitialBase.metadata.create_all(engine)
    config = utils._get_alembic_config(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def test_a_resolved_model_is_remembered_until_another_service_changes_it(
    store: MlflowModelStore, home: Path, tmp_path: Path
) -> None:
    ref = parse_ref("app:pump@prod", user="ana", app="search")
    for number in (1, 2):
        train(store, tmp_path, f"j{number}")
    store.set_alias(PUMP, "prod", 1)
    other = MlflowModelStore(home, FakeSigner(), FixedClock())
    other.start()
    try:
        assert store.recall(ref) is None
        assert store.resolve(ref) == store.recall(ref) == other.resolve(ref) == other.recall(ref)
        for version in (2, 1):
            other.set_alias(PUMP, "prod", version)
            assert store.recall(ref) is None
            assert store.resolve(ref).version == version
        other.delete_alias(PUMP, "prod")
        with pytest.raises(NotFound):
            store.resolve(ref)
    finally:
        other.close()
