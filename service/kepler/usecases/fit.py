"""One training from rows to a version draft: prepare, split, fit, measure, save, answer for every sent row.

Runs inside a worker process. Memory is one copy of the matrix, what the algorithm itself takes, and blocks
of rows for everything after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from kepler.core.algorithms import (
    Algorithm,
    AlgorithmInfo,
    Fitted,
    Incremental,
    Run,
    SummaryTable,
    Task,
    TrainingSet,
)
from kepler.core.errors import InvalidInput
from kepler.core.golden import GOLDEN_ROWS, GoldenVectors
from kepler.core.groups import Groups, check_by
from kepler.core.jobs import Notice
from kepler.core.manifest import Manifest
from kepler.core.metrics import SILHOUETTE_ROWS
from kepler.core.outputs import OutputPlan
from kepler.core.preparation import Preparation
from kepler.core.profile import FieldProfile
from kepler.core.saved import SavedModel
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.ports.formats import ModelFormats
from kepler.ports.training import TrainingFiles
from kepler.usecases.crossvalidate import check_folds, cross_validate
from kepler.usecases.grouped import GroupTraining
from kepler.usecases.prepare import Chosen, PreparedRows, build, choose, load, split
from kepler.usecases.resume import (
    Earlier,
    as_earlier,
    check_incremental,
    go_on,
    load_again,
    open_earlier,
    prepare_again,
    save_state,
)
from kepler.usecases.scoring import METRIC_ROWS, answer_all, answer_rows, cast_rows

SAMPLE_ROWS = 2_000  # rows a saved model is checked on, beside the grid

Metrics = tuple[tuple[str, float], ...]
Fit = Callable[[TrainingSet], Fitted]


class Trainable(Protocol):
    """What a fit needs of the registry."""

    def find(self, name: str) -> AlgorithmInfo: ...

    def create(self, info: AlgorithmInfo, values: Mapping[str, Any]) -> Algorithm: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a manifest records of where and when a training ran."""

    code_version: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    now: float = 0.0


@dataclass(slots=True)
class _Trained:
    """Everything between the rows and the outcome. ``metrics`` are filled here by cross-validation only."""

    chosen: Chosen
    prepared: PreparedRows
    fitted: Fitted
    notices: list[Notice]
    metrics: Metrics = ()
    parent: str = ""


def fit_model(
    spec: TrainSpec,
    files: TrainingFiles,
    algorithms: Trainable,
    formats: ModelFormats,
    run: Run,
    surroundings: Surroundings,
) -> TrainOutcome:
    """Train as ``spec`` says on ``files.rows``; leaves predictions and a version draft in ``files``.

    Raises `KeplerError` for everything the caller can act on.
    """
    info = algorithms.find(spec.algorithm)
    algorithm = algorithms.create(info, spec.params)
    _check(spec, info)
    check_incremental(spec, info, algorithm, formats)
    if spec.by:
        return _fit_groups(
            spec, info, lambda: algorithms.create(info, spec.params), files, formats, run, surroundings
        )
    run.progress(0.0, "loading")
    if spec.partial_fit and spec.parent:
        earlier = open_earlier(spec, info, files, formats)
        spec = as_earlier(spec, info, earlier)
        trained = _train_on(spec, info, algorithms.create(info, spec.params), earlier, files, run)
    else:
        trained = _train(spec, info, lambda: algorithms.create(info, spec.params), files, run)
    plan = _plan(spec, info, trained)
    if spec.probabilities:
        plan.check_probabilities(info.name)
    run.progress(0.8, "converting")
    draft = _save(spec, trained, formats, files, run) if spec.model else None
    run.progress(0.9, "scoring")
    measured = _answer(spec, trained, plan, files, run)
    metrics = trained.metrics or measured
    if draft is not None:
        described = _Draft(
            plan, trained.prepared.preparation, *draft, metrics, trained.chosen.profile,
            trained.fitted.summary, trained.chosen.selection.n_kept, trained.chosen.table.n_rows, trained.parent,
        )  # fmt: skip
        files.write_manifest(_manifest(spec, info, described, surroundings))
    run.progress(1.0, "done")
    used, sent = trained.chosen.selection.n_kept, trained.chosen.table.n_rows
    return TrainOutcome(
        rows_used=used,
        rows_dropped=sent - used,
        metrics=metrics,
        notices=tuple(trained.notices),
        model_dir=files.draft_name if draft is not None else "",
        predictions=files.predictions_name if spec.output == "predictions" else "",
    )


def _check(spec: TrainSpec, info: AlgorithmInfo) -> None:
    if spec.by:
        check_by(spec.by, kfold_cv=spec.kfold_cv, partial_fit=spec.partial_fit)
    if spec.model and not info.savable:
        raise InvalidInput(
            f"{info.name} only answers for the rows it is given, so there is no model to keep",
            fix="Leave out 'into'.",
        )
    if spec.kfold_cv:
        check_folds(spec, info)


def _fit_groups(
    spec: TrainSpec, info: AlgorithmInfo, make: Callable[[], Algorithm], files: TrainingFiles,
    formats: ModelFormats, run: Run, surroundings: Surroundings,
) -> TrainOutcome:  # fmt: skip
    """One model per group (``by``)."""

    def fit(data: TrainingSet, run: Run) -> Fitted:
        with _told(info):
            return make().fit(data, run)

    grouped = GroupTraining(spec, info, fit, files, formats).run(run)
    if grouped.saved is not None:
        draft = _Draft(
            grouped.plan, grouped.preparation, grouped.saved, GoldenVectors((), {}), grouped.metrics,
            grouped.profile, grouped.summary, grouped.rows_used, grouped.rows_sent, groups=grouped.groups,
        )  # fmt: skip
        files.write_manifest(_manifest(spec, info, draft, surroundings))
    run.progress(1.0, "done")
    return TrainOutcome(
        rows_used=grouped.rows_used,
        rows_dropped=grouped.rows_sent - grouped.rows_used,
        metrics=grouped.metrics,
        notices=tuple(grouped.notices),
        model_dir=files.draft_name if grouped.saved is not None else "",
        predictions=files.predictions_name if spec.output == "predictions" else "",
    )


def _train(
    spec: TrainSpec, info: AlgorithmInfo, make: Callable[[], Algorithm], files: TrainingFiles, run: Run
) -> _Trained:
    """Learn from nothing: the whole set, a part of it (test_size), or folds (kfold_cv)."""
    table = load(spec, info, files.rows)
    run.progress(0.3, "preparing")
    chosen = choose(spec, info, table)
    notices = list(chosen.selection.notices)

    def fit(data: TrainingSet) -> Fitted:
        algorithm = make()
        with _told(info):
            if spec.partial_fit:
                assert isinstance(algorithm, Incremental)
                return algorithm.partial_fit(data, run, None)
            return algorithm.fit(data, run)

    if spec.kfold_cv:
        crossed = cross_validate(spec, info, chosen, fit, run)
        text = f"the figures are of {spec.kfold_cv} folds of the rows; no model is kept (kfold_cv)"
        if spec.output == "predictions":
            text = f"every row is answered by the one of {spec.kfold_cv} fits that did not see it (kfold_cv)"
        notices += [*crossed.prepared.notices, Notice("info", text)]
        return _Trained(chosen, crossed.prepared, crossed.fitted, notices, crossed.metrics)
    prepared = build(chosen, split(spec, info, chosen), spec.seed, consume=True)
    notices += prepared.notices
    run.progress(0.4, "fitting")
    fitted = fit(prepared.training_set())
    if prepared.train is not None:
        if fitted.training_scores is not None:
            raise InvalidInput(
                f"{info.name} cannot answer for rows it has not seen", fix="Leave out test_size."
            )
        held = int(np.count_nonzero(~prepared.train))
        text = f"held out {held:,} of {len(prepared.x):,} rows to measure on (test_size={spec.test_size:g})"
        notices.append(Notice("info", text))
    return _Trained(chosen, prepared, fitted, notices)


def _train_on(
    spec: TrainSpec,
    info: AlgorithmInfo,
    algorithm: Algorithm,
    earlier: Earlier,
    files: TrainingFiles,
    run: Run,
) -> _Trained:
    """Go on from the ``earlier`` version (partial_fit)."""
    table = load_again(earlier, info, files)
    run.progress(0.3, "preparing")
    chosen, prepared = prepare_again(spec, info, earlier, table)
    run.progress(0.4, "fitting")
    with _told(info):
        fitted = go_on(algorithm, prepared, earlier, run)
    notices = [*chosen.selection.notices, *prepared.notices]
    return _Trained(chosen, prepared, fitted, notices, parent=earlier.full_name)


class _told:
    """Libraries say in a ValueError what they cannot take; that is the caller's to know."""

    def __init__(self, info: AlgorithmInfo) -> None:
        self._info = info

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, stack: object) -> None:
        if isinstance(error, ValueError | ArithmeticError):
            first = str(error).strip().partition("\n")[0][:300]
            raise InvalidInput(
                f"{self._info.name} could not learn from these rows",
                cause=first,
                fix="Check its parameters and the fields.",
            ) from error


def _plan(spec: TrainSpec, info: AlgorithmInfo, trained: _Trained) -> OutputPlan:
    fitted, prepared = trained.fitted, trained.prepared
    first = fitted.training_scores or fitted.score(cast_rows(prepared.x[:1], fitted.dtype))
    return OutputPlan.of(
        info.task,
        algorithm=info.name,
        params=spec.params,
        raw=tuple(first),
        target=spec.target,
        labels=prepared.target.classes if prepared.target else (),
        components=fitted.component_names,
        prefix=info.output_prefix,
    )


def _save(
    spec: TrainSpec, trained: _Trained, formats: ModelFormats, files: TrainingFiles, run: Run
) -> tuple[SavedModel, GoldenVectors]:
    """Write the model, open it again, and record what it says about a few rows."""
    fitted, x = trained.fitted, trained.prepared.x
    folder = files.draft()
    rows = np.arange(len(x))
    if len(x) > SAMPLE_ROWS:
        rows = np.sort(np.random.default_rng(spec.seed).choice(len(x), SAMPLE_ROWS, replace=False))
    saved = formats.save(fitted, cast_rows(x[rows], fitted.dtype), folder)
    saved = replace(saved, extra={**saved.extra, **save_state(spec, fitted, formats, folder)})
    picked = np.unique(np.linspace(0, len(x) - 1, GOLDEN_ROWS).astype(np.int64))
    inputs = cast_rows(x[picked], saved.dtype)
    scorer = formats.load(saved, folder, threads=run.threads)
    return saved, GoldenVectors.of(inputs, scorer.score(inputs))


def _answer(spec: TrainSpec, trained: _Trained, plan: OutputPlan, files: TrainingFiles, run: Run) -> Metrics:
    """Write the predictions where they are asked for; gives the metrics."""
    fitted, prepared, chosen = trained.fitted, trained.prepared, trained.chosen
    x, target, train = prepared.x, prepared.target, prepared.train
    if spec.output == "predictions":
        sink = files.predictions(plan.columns(as_name=spec.as_name, probabilities=spec.probabilities))
        answers = answer_all(
            fitted, x, chosen.selection.kept, chosen.table.n_rows, plan, sink, run,
            as_name=spec.as_name, probabilities=spec.probabilities,
        )  # fmt: skip
        sink.close()
    else:
        step = -(-len(x) // METRIC_ROWS)
        if step > 1 and fitted.training_scores is None:
            text = f"metrics come from one in {step} of {len(x):,} rows (output={spec.output})"
            trained.notices.append(Notice("info", text))
            x = x[::step]
            train = None if train is None else train[::step]
            target = None if target is None else target.every(step)
        answers = answer_rows(fitted, x, plan.task)
    if plan.task is Task.CLUSTERING and len(x) > SILHOUETTE_ROWS:
        text = (
            f"silhouette comes from {SILHOUETTE_ROWS:,} random rows of {len(x):,}: it grows with their square"
        )
        trained.notices.append(Notice("info", text))
    if train is None:
        return tuple(answers.metrics(target, slice(None), x, spec.seed).items())
    learned = answers.metrics(target, train, x, spec.seed)
    held = answers.metrics(target, ~train, x, spec.seed)
    return (*learned.items(), *((f"test_{name}", value) for name, value in held.items()))


@dataclass(frozen=True, slots=True)
class _Draft:
    """What a training adds to its manifest."""

    plan: OutputPlan
    preparation: Preparation
    saved: SavedModel
    golden: GoldenVectors
    metrics: Metrics
    profile: Mapping[str, FieldProfile]
    summary: Mapping[str, SummaryTable]
    rows: int
    rows_sent: int
    parent: str = ""
    groups: Groups | None = None


def _manifest(spec: TrainSpec, info: AlgorithmInfo, draft: _Draft, surroundings: Surroundings) -> Manifest:
    return Manifest(
        task=info.task,
        algorithm=info.name,
        params=spec.params,
        target=spec.target,
        preparation=draft.preparation,
        outputs=draft.plan,
        model=draft.saved,
        golden=draft.golden,
        groups=draft.groups,
        profile=draft.profile,
        metrics=draft.metrics,
        summary=draft.summary,
        rows=draft.rows,
        rows_sent=draft.rows_sent,
        data_sha256=spec.data_sha256,
        search=spec.search,
        owner=spec.owner,
        tags=spec.tags,
        seeds={"seed": spec.seed},
        code_version=surroundings.code_version,
        environment=surroundings.environment,
        parent=draft.parent,
        job_id=spec.job_id,
        created_at=surroundings.now,
    )
