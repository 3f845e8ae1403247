"""Random trains, alias moves, rollbacks and deletions: MLflow's tables and memory give the same answers."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fakes.model_store import InMemoryModelStore, make_outcome, make_spec, write_draft
from fakes.signer import FakeSigner
from kepler.adapters.mlflow.store import MlflowModelStore
from kepler.adapters.storage import version_folder
from kepler.core.errors import KeplerError
from kepler.core.names import ModelName, parse_ref
from kepler.ports.models import ModelStore

NAMES = [ModelName("app", "search", "pump"), ModelName("user", "ana", "pump"), ModelName("user", "bo", "fan")]
names = st.sampled_from(NAMES)
aliases = st.sampled_from(["prod", "best"])
numbers = st.integers(1, 6)
selectors = st.one_of(st.just(""), aliases.map("@{}".format), numbers.map("@{}".format))


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        self.time += 1
        return self.time


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="kepler-machine-"))
        self.signer, self.clock = FakeSigner(), Clock()
        self.memory = InMemoryModelStore()
        self.mlflow = self.open()
        self.jobs = 0
        self.seen: set[str] = set()

    def open(self) -> MlflowModelStore:
        store = MlflowModelStore(self.folder / "home", self.signer, self.clock)
        store.start()
        return store

    @rule(name=names)
    def train(self, name: ModelName) -> None:
        self.jobs += 1
        spec = make_spec(f"j{self.jobs}", str(name))
        made = self.mlflow.register(spec, make_outcome(), write_draft(self.folder / spec.job_id, spec))
        assert made.full_name == self.memory.register(spec, make_outcome(), self.folder).full_name
        assert made.full_name not in self.seen  # a number means one model for ever
        self.seen.add(made.full_name)

    @rule(job=st.integers(1, 8), name=names)
    def train_again(self, job: int, name: ModelName) -> None:
        if job <= self.jobs:
            spec = make_spec(f"j{job}", str(name))
            newest = self.memory.list_models(everything=True)
            if any(record.job_id == spec.job_id and record.name == name for record in newest):
                self.same(
                    lambda store: store.register(spec, make_outcome(), self.folder / "gone").full_name, spec
                )

    @rule(name=names, alias=aliases, version=numbers)
    def set_alias(self, name: ModelName, alias: str, version: int) -> None:
        self.same(lambda store: shown(store.set_alias(name, alias, version)), alias)

    @rule(name=names, alias=aliases)
    def delete_alias(self, name: ModelName, alias: str) -> None:
        self.same(lambda store: shown(store.delete_alias(name, alias)), alias)

    @rule(name=names, alias=aliases)
    def rollback(self, name: ModelName, alias: str) -> None:
        self.same(lambda store: shown(store.rollback(name, alias)), alias)

    @rule(name=names, version=st.one_of(st.none(), numbers, numbers))
    def delete(self, name: ModelName, version: int | None) -> None:
        self.same(lambda store: store.delete(name, version), version)

    @rule(text=st.sampled_from(["pump", "app:pump", "user.bo/fan"]), selector=selectors)
    def resolve(self, text: str, selector: str) -> None:
        ref = parse_ref(text + selector, user="ana", app="search")
        self.same(lambda store: shown(store.resolve(ref)), text + selector)

    @rule()
    def restart(self) -> None:
        self.mlflow.close()
        self.mlflow = self.open()

    @invariant()
    def lists_are_the_same(self) -> None:
        for user in ("", "ana"):
            expected = [shown(record) for record in self.memory.list_models(user=user)]
            assert [shown(record) for record in self.mlflow.list_models(user=user)] == expected

    def same(self, act: object, said: object) -> None:
        assert outcome(act, self.mlflow) == outcome(act, self.memory), said

    def teardown(self) -> None:
        for record in self.mlflow.list_models(everything=True):
            for version in self.mlflow.list_versions(record.name):
                version_folder.verify_folder(Path(version.folder), self.signer, version.full_name)
        kept = {
            path for path in (self.folder / "home" / "models").glob("*/*") if not path.name.startswith(".")
        }
        alive = {
            Path(version.folder)
            for record in self.mlflow.list_models(everything=True)
            for version in self.mlflow.list_versions(record.name)
        }
        assert kept == alive
        self.mlflow.close()
        shutil.rmtree(self.folder)


def shown(record: object) -> tuple[str, tuple[str, ...]]:
    return record.full_name, record.aliases  # type: ignore[attr-defined]


def outcome(act: object, store: ModelStore) -> object:
    """What came back, or the sentence of the error."""
    try:
        return act(store)  # type: ignore[operator]
    except KeplerError as error:
        return error.code, error.message


TestModelStore = StoreMachine.TestCase
TestModelStore.settings = settings(
    max_examples=6, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
)
