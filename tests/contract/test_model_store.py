"""One suite for every `ModelStore`: in memory, MLflow on SQLite, MLflow on PostgreSQL."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fakes.mlflow_import import import_mlflow
from fakes.model_store import InMemoryModelStore, make_outcome, make_spec, write_draft
from fakes.postgres import fresh_database, postgres_url  # noqa: F401 (a fixture)
from fakes.signer import FakeSigner
from kepler.adapters.mlflow import schema
from kepler.adapters.mlflow.store import MlflowModelStore, database_url
from kepler.core.errors import Conflict, InvalidInput, NotFound
from kepler.core.names import ModelName, parse_ref
from kepler.core.versions import VersionRecord
from kepler.ports.models import ModelStore

PUMP = ModelName("app", "search", "pump")


class TickingClock:
    """A second passes with each look."""

    def __init__(self) -> None:
        self._now = 1_700_000_000.0

    def now(self) -> float:
        self._now += 1.0
        return self._now


@dataclass
class Store:
    """A store, and a short way to train into it."""

    models: ModelStore
    folder: Path
    count: int = 0

    def train(self, model: str = str(PUMP), **changes: object) -> VersionRecord:
        self.count += 1
        spec = make_spec(f"job-{self.count}", model, **changes)
        draft = write_draft(self.folder / "jobs" / spec.job_id / "model", spec)
        return self.models.register(spec, make_outcome(), draft)

    def resolve(self, text: str, user: str = "ana") -> VersionRecord:
        return self.models.resolve(parse_ref(text, user=user, app="search"))


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield Store(InMemoryModelStore(), tmp_path)
        return
    if request.param == "sqlite":
        models = MlflowModelStore(tmp_path / "home", FakeSigner(), TickingClock())
        models.start()
        yield Store(models, tmp_path)
        models.close()
        return
    cluster: str = request.getfixturevalue("migrated_postgres")
    with fresh_database(cluster, f"t{uuid.uuid4().hex}", "migrated") as url:
        models = MlflowModelStore(tmp_path / "home", FakeSigner(), TickingClock(), url=url)
        models.start()
        yield Store(models, tmp_path)
        models.close()


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> Iterator[str]:  # noqa: F811 (the fixture)
    """A cluster whose database ``migrated`` has MLflow's tables, made once by its migrations."""
    with fresh_database(postgres_url, "migrated") as url:
        import_mlflow()
        schema.migrate_here(database_url(url))  # in this process: MLflow is imported once for all tests
        yield postgres_url


def test_a_registered_version_is_found_by_number_by_alias_and_as_latest(store: Store) -> None:
    first, second = store.train(tags=("line=7", "trial")), store.train()
    store.models.set_alias(PUMP, "prod", 1)

    assert (first.version, second.version) == (1, 2)
    assert store.resolve("pump").version == 2
    assert store.resolve("app:pump@latest").version == 2
    assert store.resolve("app.search/pump@1").full_name == "app.search/pump@1"
    found = store.resolve("pump@prod")
    assert found.version == 1
    assert found.aliases == ("prod",)
    assert (found.algorithm, found.task, found.target, found.owner) == (
        "LinearRegression",
        "regression",
        "y",
        "ana",
    )
    assert found.metrics == (("r2", 0.9), ("rmse", 0.25))
    assert found.tags == {"line": "7", "trial": ""}
    assert (found.job_id, found.format, found.rows) == ("job-1", "onnx", 10)
    assert found.run_id
    assert found.created_at > 0


def test_registering_a_job_again_gives_the_same_version(store: Store) -> None:
    first = store.train()
    store.count = 0
    again = store.models.register(make_spec("job-1"), make_outcome(), store.folder / "gone")
    assert again == first
    assert [record.version for record in store.models.list_versions(PUMP)] == [1]


def test_a_private_model_hides_the_apps_of_the_same_name(store: Store) -> None:
    store.train()
    store.train()
    store.train("user.ana/pump")

    assert str(store.resolve("pump").name) == "user.ana/pump"
    assert str(store.resolve("pump", user="bo").name) == "app.search/pump"
    assert store.resolve("app:pump").version == 2
    with pytest.raises(NotFound, match='Model "pump" has no version 2; the newest is 1'):
        store.resolve("pump@2")


def test_what_is_missing_is_named_with_what_exists(store: Store) -> None:
    for _ in range(3):
        store.train()
    store.train("user.bo/pumps")
    store.models.set_alias(PUMP, "prod", 2)

    with pytest.raises(NotFound) as no_version:
        store.resolve("pump@12")
    assert no_version.value.sentence == (
        'Model "pump" has no version 12; the newest is 3. '
        "Use version=latest, or train one with `kepler train`."
    )
    with pytest.raises(NotFound, match=r'has no alias "test"\. It has prod \(version 2\)'):
        store.resolve("pump@test")
    with pytest.raises(NotFound, match=r"The nearest is app\.search/pump\.") as no_model:
        store.resolve("pumpp")
    assert "user.bo" not in no_model.value.sentence
    with pytest.raises(NotFound, match="has no version 99999999999999999999"):
        store.resolve("pump@99999999999999999999")
    with pytest.raises(NotFound):
        store.models.list_versions(ModelName("app", "search", "none"))


def test_lists_hold_the_newest_of_each_model_that_the_user_may_see(store: Store) -> None:
    for model in ("app.search/pump", "app.search/pump", "app.it/fan", "user.ana/own", "user.bo/own"):
        store.train(model)
    store.models.set_alias(PUMP, "prod", 2)

    def listed(*args: str, **options: object) -> list[str]:
        return [record.full_name for record in store.models.list_models(*args, **options)]

    assert listed(user="ana") == ["app.it/fan@1", "app.search/pump@2", "user.ana/own@1"]
    assert listed() == ["app.it/fan@1", "app.search/pump@2"]
    assert listed(everything=True) == [
        "app.it/fan@1",
        "app.search/pump@2",
        "user.ana/own@1",
        "user.bo/own@1",
    ]
    assert listed("app.search/*", user="ana") == ["app.search/pump@2"]
    assert listed("*own", user="bo") == ["user.bo/own@1"]
    assert listed("app.search/p?mp") == []
    assert listed("") == listed()
    assert [record.aliases for record in store.models.list_models("*/pump")] == [("prod",)]


def test_versions_come_newest_first_with_their_aliases(store: Store) -> None:
    for _ in range(11):
        store.train()
    store.models.set_alias(PUMP, "prod", 9)
    store.models.set_alias(PUMP, "best", 9)
    versions = store.models.list_versions(PUMP)
    assert [record.version for record in versions] == list(range(11, 0, -1))
    assert versions[2].aliases == ("best", "prod")


def test_an_alias_moves_and_rolls_back_again_and_again(store: Store) -> None:
    for _ in range(4):
        store.train()
    for version in (1, 3, 3, 4):
        assert store.models.set_alias(PUMP, "prod", version).aliases == ("prod",)

    assert store.models.rollback(PUMP, "prod").version == 3
    assert store.models.rollback(PUMP, "prod").version == 1
    with pytest.raises(Conflict, match="no earlier version"):
        store.models.rollback(PUMP, "prod")
    assert store.resolve("pump@prod").version == 1
    assert store.models.set_alias(PUMP, "prod", 2).version == 2
    assert store.models.rollback(PUMP, "prod").version == 1


def test_rolling_back_passes_over_deleted_versions(store: Store) -> None:
    for _ in range(3):
        store.train()
    for version in (1, 2, 3):
        store.models.set_alias(PUMP, "prod", version)
    store.models.delete(PUMP, 2)
    assert store.models.rollback(PUMP, "prod").version == 1


def test_a_deleted_alias_is_gone_with_its_history(store: Store) -> None:
    for _ in range(2):
        store.train()
    store.models.set_alias(PUMP, "prod", 1)
    store.models.set_alias(PUMP, "prod", 2)
    gone = store.models.delete_alias(PUMP, "prod")
    assert (gone.version, gone.aliases) == (2, ())
    with pytest.raises(NotFound, match="It has none"):
        store.models.delete_alias(PUMP, "prod")
    with pytest.raises(NotFound):
        store.models.rollback(PUMP, "prod")
    store.models.set_alias(PUMP, "prod", 1)
    with pytest.raises(Conflict):
        store.models.rollback(PUMP, "prod")


@pytest.mark.parametrize("alias", ["latest", "LATEST", "7", "v7", "V7", "a.b", "a b", "", "ä"])
def test_an_alias_that_means_something_else_is_refused(store: Store, alias: str) -> None:
    store.train()
    with pytest.raises(InvalidInput):
        store.models.set_alias(PUMP, alias, 1)


def test_an_alias_needs_a_version_that_exists(store: Store) -> None:
    with pytest.raises(NotFound, match=r'There is no model "app\.search/pump"'):
        store.models.set_alias(PUMP, "prod", 1)
    store.train()
    with pytest.raises(NotFound, match="has no version 2; the newest is 1"):
        store.models.set_alias(PUMP, "prod", 2)


def test_a_version_under_an_alias_is_not_deleted_alone(store: Store) -> None:
    store.train()
    store.train()
    store.models.set_alias(PUMP, "prod", 1)
    store.models.set_alias(PUMP, "best", 1)
    with pytest.raises(Conflict, match='Aliases "best", "prod" point at it'):
        store.models.delete(PUMP, 1)
    store.models.delete_alias(PUMP, "best")
    with pytest.raises(Conflict, match='Alias "prod" points at it'):
        store.models.delete(PUMP, 1)
    assert store.models.delete(PUMP, 2) == [2]
    assert [record.version for record in store.models.list_versions(PUMP)] == [1]
    with pytest.raises(NotFound):
        store.models.delete(PUMP, 2)


def test_a_deleted_model_is_gone_and_its_numbers_are_not_used_again(store: Store) -> None:
    store.train()
    store.train()
    store.models.set_alias(PUMP, "prod", 1)
    assert store.models.delete(PUMP, None) == [2, 1]
    assert store.models.list_models() == []
    with pytest.raises(NotFound, match="There is no model"):
        store.resolve("pump")
    with pytest.raises(NotFound):
        store.models.delete(PUMP, None)
    with pytest.raises(Conflict, match="deleted since"):
        store.models.register(make_spec("job-1"), make_outcome(), store.folder / "gone")

    assert store.train().version == 3
    with pytest.raises(NotFound, match="It has none"):
        store.resolve("pump@prod")
    with pytest.raises(NotFound, match="has no version 1"):
        store.resolve("pump@1")


def test_trainings_that_end_at_once_get_numbers_of_their_own(store: Store) -> None:
    specs = [make_spec(f"at-once-{number}") for number in range(8)]
    drafts = [write_draft(store.folder / spec.job_id, spec) for spec in specs]
    made: list[VersionRecord] = []
    start = threading.Barrier(len(specs))

    def work(number: int) -> None:
        start.wait()
        made.append(store.models.register(specs[number], make_outcome(), drafts[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(specs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(record.version for record in made) == list(range(1, 9))
    assert {record.job_id: record.version for record in store.models.list_versions(PUMP)} == {
        record.job_id: record.version for record in made
    }


def test_what_is_recalled_is_what_is_true_now(store: Store) -> None:
    def recalled(text: str) -> int:
        """The version meant; what is recalled before and after somebody resolved it agrees."""
        ref = parse_ref(text, user="ana", app="search")
        before, found, after = store.models.recall(ref), store.resolve(text), store.models.recall(ref)
        assert before in (None, found)
        assert after in (None, found)
        return found.version

    store.train()
    assert recalled("pump") == 1
    store.train()
    assert recalled("pump") == 2
    store.models.set_alias(PUMP, "prod", 1)
    assert recalled("pump@prod") == 1
    store.models.set_alias(PUMP, "prod", 2)
    assert recalled("pump@prod") == 2
    assert store.resolve("pump@2").aliases == ("prod",)
    store.models.rollback(PUMP, "prod")
    assert recalled("pump@prod") == 1
    store.models.delete(PUMP, 2)
    assert recalled("pump") == 1
    store.train("user.ana/pump")
    assert recalled("pump") == 1
    assert str(store.resolve("pump").name) == "user.ana/pump"
    store.models.delete(ModelName("user", "ana", "pump"), None)
    assert str(store.resolve("pump").name) == "app.search/pump"
    store.models.delete_alias(PUMP, "prod")
    for text in ("pump@prod", "pump@2", "user.ana/pump"):
        assert store.models.recall(parse_ref(text, user="ana", app="search")) is None
        with pytest.raises(NotFound):
            store.resolve(text)


def test_an_alias_that_moved_is_seen_by_whoever_asks_next(store: Store) -> None:
    for _ in range(2):
        store.train()
    store.models.set_alias(PUMP, "prod", 1)
    ref = parse_ref("app:pump@prod", user="ana", app="search")
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            store.models.recall(ref) or store.models.resolve(ref)

    threads = [threading.Thread(target=ask) for _ in range(3)]  # they fill what is remembered
    for thread in threads:
        thread.start()
    try:
        for turn in range(20):
            version = 2 - turn % 2
            store.models.set_alias(PUMP, "prod", version)
            for _ in range(5):
                known = store.models.recall(ref)
                assert known is None or known.version == version
                assert store.models.resolve(ref).version == version
    finally:
        stop.set()
        for thread in threads:
            thread.join()
