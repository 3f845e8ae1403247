"""A model store in memory, and drafts to register. It passes ``tests/contract/test_model_store.py``."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

from kepler.adapters.mlflow import history as past
from kepler.adapters.mlflow import messages
from kepler.adapters.mlflow.reader import visible_to
from kepler.adapters.mlflow.record import user_tags
from kepler.adapters.mlflow.store import check_mlflow_alias
from kepler.core.algorithms import Task
from kepler.core.errors import Conflict, NotFound
from kepler.core.golden import GoldenVectors
from kepler.core.manifest import Manifest
from kepler.core.names import ModelName, ModelRef
from kepler.core.outputs import OutputPlan
from kepler.core.patterns import matches
from kepler.core.preparation import NumberFeature, Preparation
from kepler.core.saved import SavedModel
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.core.versions import VersionRecord


@dataclass
class _Model:
    versions: dict[int, VersionRecord] = field(default_factory=dict)
    aliases: dict[str, past.History] = field(default_factory=dict)
    jobs: dict[str, int] = field(default_factory=dict)
    last: int = 0


class InMemoryModelStore:
    """`ModelStore` that forgets. ``folder`` of a version is the draft it came from."""

    def __init__(self) -> None:
        self._models: dict[ModelName, _Model] = {}
        self._lock = threading.RLock()

    def resolve(self, ref: ModelRef) -> VersionRecord:
        text = ref.text.partition("@")[0]
        for name in ref.candidates:
            model = self._models.get(name)
            if model is None or not model.versions:
                continue
            newest = max(model.versions)
            if ref.version is not None and ref.version not in model.versions:
                raise messages.no_version(text, ref.version, newest)
            if ref.alias is not None and ref.alias not in model.aliases:
                raise messages.no_alias(text, ref.selector, _targets(model))
            number = ref.version or (model.aliases[ref.alias][-1] if ref.alias else newest)
            return self._shown(model, number)
        owners = {name.holder for name in ref.candidates if name.private}
        known = [str(name) for name in self._alive() if not name.private or name.holder in owners]
        raise messages.no_model(text, known)

    def recall(self, ref: ModelRef) -> VersionRecord | None:
        try:
            return self.resolve(ref)
        except NotFound:
            return None

    def register(self, spec: TrainSpec, outcome: TrainOutcome, draft: Path) -> VersionRecord:
        name = ModelName.parse(spec.model)
        with self._lock:
            model = self._models.setdefault(name, _Model())
            if spec.job_id in model.jobs:
                number = model.jobs[spec.job_id]
                if number not in model.versions:
                    raise Conflict(f"Job {spec.job_id} made version {number} of {name}, deleted since")
                return self._shown(model, number)
            model.last += 1
            model.jobs[spec.job_id] = model.last
            model.versions[model.last] = VersionRecord(
                name=name,
                version=model.last,
                folder=str(draft),
                manifest_sha256=f"{model.last:064x}",
                algorithm=spec.algorithm,
                task="regression",
                target=spec.target,
                owner=spec.owner,
                created_at=float(model.last),
                job_id=spec.job_id,
                run_id=f"{model.last:032x}",
                format="onnx",
                size_bytes=1,
                rows=outcome.rows_used,
                metrics=outcome.metrics,
                tags=user_tags(spec.tags),
            )
            return self._shown(model, model.last)

    def list_models(
        self, pattern: str = "*", *, user: str = "", everything: bool = False
    ) -> list[VersionRecord]:
        wanted = pattern or "*"
        return [
            self._shown(model, max(model.versions))
            for name, model in sorted(self._alive().items())
            if visible_to(name, user, everything) and matches(wanted, str(name))
        ]

    def list_versions(self, name: ModelName) -> list[VersionRecord]:
        model = self._model(name)
        return [self._shown(model, number) for number in sorted(model.versions, reverse=True)]

    def set_alias(self, name: ModelName, alias: str, version: int) -> VersionRecord:
        check_mlflow_alias(alias)
        with self._lock:
            model = self._model(name, version)
            model.aliases[alias] = past.push(model.aliases.get(alias, ()), version)
            return self._shown(model, version)

    def delete_alias(self, name: ModelName, alias: str) -> VersionRecord:
        with self._lock:
            model = self._aliased(name, alias)
            number = model.aliases.pop(alias)[-1]
            return self._shown(model, number)

    def rollback(self, name: ModelName, alias: str) -> VersionRecord:
        with self._lock:
            model = self._aliased(name, alias)
            trail = past.pop(model.aliases[alias], model.versions)
            if trail is None:
                raise messages.nothing_before(str(name), alias, model.aliases[alias][-1])
            model.aliases[alias] = trail
            return self._shown(model, trail[-1])

    def delete(self, name: ModelName, version: int | None) -> list[int]:
        with self._lock:
            model = self._model(name, version)
            if version is None:
                gone = sorted(model.versions, reverse=True)
                model.versions.clear()
                model.aliases.clear()
                return gone
            aliases = self._shown(model, version).aliases
            if aliases:
                raise messages.still_aliased(str(name), version, aliases)
            del model.versions[version]
            return [version]

    def close(self) -> None:
        return None

    def _alive(self) -> dict[ModelName, _Model]:
        return {name: model for name, model in self._models.items() if model.versions}

    def _model(self, name: ModelName, version: int | None = None) -> _Model:
        model = self._alive().get(name)
        if model is None:
            raise messages.no_model(str(name))
        if version is not None and version not in model.versions:
            raise messages.no_version(str(name), version, max(model.versions))
        return model

    def _aliased(self, name: ModelName, alias: str) -> _Model:
        model = self._model(name)
        if alias not in model.aliases:
            raise messages.no_alias(str(name), alias, _targets(model))
        return model

    def _shown(self, model: _Model, number: int) -> VersionRecord:
        aliases = tuple(sorted(alias for alias, target in _targets(model).items() if target == number))
        return replace(model.versions[number], aliases=aliases)


def _targets(model: _Model) -> dict[str, int]:
    return {alias: trail[-1] for alias, trail in model.aliases.items()}


def make_spec(job_id: str, model: str = "app.search/pump", **changes: object) -> TrainSpec:
    """A training of ``y`` from ``a``."""
    spec = TrainSpec(
        job_id=job_id,
        algorithm="LinearRegression",
        features=("a",),
        columns=("a", "y"),
        target="y",
        model=model,
        params={"fit_intercept": True},
        owner="ana",
    )
    return replace(spec, **changes)


def make_outcome(**changes: object) -> TrainOutcome:
    return replace(
        TrainOutcome(rows_used=10, metrics=(("r2", 0.9), ("rmse", 0.25)), model_dir="model"), **changes
    )


def write_draft(folder: Path, spec: TrainSpec, content: bytes = b"a model") -> Path:
    """A folder as a training leaves it: a manifest and the model's file."""
    manifest = Manifest(
        task=Task.REGRESSION,
        algorithm=spec.algorithm,
        params=spec.params,
        target=spec.target,
        preparation=Preparation("drop", (NumberFeature("a"),)),
        outputs=OutputPlan(Task.REGRESSION, target="y", raw=("value",)),
        model=SavedModel("onnx", ("model.onnx",), "float32", ("value",)),
        golden=GoldenVectors(((1.0,),), {"value": ((2.0,),)}),
        rows=10,
        rows_sent=10,
        job_id=spec.job_id,
    )
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    (folder / "model.onnx").write_bytes(content)
    return folder
