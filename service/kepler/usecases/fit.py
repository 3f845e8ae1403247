"""One training from rows to a version draft: prepare, split, fit, measure, save, answer for every sent row.

Runs inside a worker process. Memory is one copy of the matrix, what the algorithm itself takes, and blocks
of rows for everything after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from kepler.core.algorithms import Algorithm, AlgorithmInfo, Fitted, Run, TrainingSet
from kepler.core.errors import InvalidInput
from kepler.core.golden import GOLDEN_ROWS, GoldenVectors
from kepler.core.jobs import Notice
from kepler.core.manifest import Manifest
from kepler.core.outputs import OutputPlan
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.ports.formats import ModelFormats
from kepler.ports.training import TrainingFiles
from kepler.usecases.crossvalidate import check_folds, cross_validate
from kepler.usecases.prepare import Chosen, PreparedRows, build, choose, load, split
from kepler.usecases.scoring import METRIC_ROWS, answer_all, answer_rows, cast_rows

SAMPLE_ROWS = 2_000  # rows a saved model is checked on, beside the grid


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
    _check(spec, info)
    run.progress(0.0, "loading")
    table = load(spec, info, files.rows)
    run.progress(0.3, "preparing")
    chosen = choose(spec, info, table)
    notices = list(chosen.selection.notices)

    def fit(data: TrainingSet) -> Fitted:
        return _fit(algorithms.create(info, spec.params), info, data, run)

    metrics: tuple[tuple[str, float], ...] = ()
    if spec.kfold_cv:
        crossed = cross_validate(spec, info, chosen, fit, run)
        prepared, fitted, metrics = crossed.prepared, crossed.fitted, crossed.metrics
        notices.append(
            Notice(
                "info",
                f"every row is answered by the one of {spec.kfold_cv} fits that did not see it (kfold_cv)",
            )
        )
    else:
        prepared = build(chosen, split(spec, info, chosen), spec.seed, consume=True)
        run.progress(0.4, "fitting")
        fitted = fit(prepared.training_set())
        if prepared.train is not None:
            _check_held_out(info, fitted)
            held = int(np.count_nonzero(~prepared.train))
            notices.append(
                Notice(
                    "info",
                    f"held out {held:,} of {len(prepared.x):,} rows to measure on (test_size={spec.test_size:g})",
                )
            )
    notices += prepared.notices
    plan = _plan(spec, info, fitted, prepared)
    if spec.probabilities:
        plan.check_probabilities(info.name)
    run.progress(0.8, "converting")
    draft = _save(spec, fitted, prepared, formats, files, run) if spec.model else None
    run.progress(0.9, "scoring")
    measured = _answer(spec, fitted, prepared, chosen, plan, files, run, notices)
    metrics = metrics or measured
    if draft is not None:
        saved, golden = draft
        files.write_manifest(
            Manifest(
                task=info.task,
                algorithm=info.name,
                params=spec.params,
                target=spec.target,
                preparation=prepared.preparation,
                outputs=plan,
                model=saved,
                golden=golden,
                profile=chosen.profile,
                metrics=metrics,
                summary=fitted.summary,
                rows=chosen.selection.n_kept,
                rows_sent=table.n_rows,
                data_sha256=spec.data_sha256,
                search=spec.search,
                owner=spec.owner,
                tags=spec.tags,
                seeds={"seed": spec.seed},
                code_version=surroundings.code_version,
                environment=surroundings.environment,
                job_id=spec.job_id,
                created_at=surroundings.now,
            )
        )
    run.progress(1.0, "done")
    return TrainOutcome(
        rows_used=chosen.selection.n_kept,
        rows_dropped=table.n_rows - chosen.selection.n_kept,
        metrics=metrics,
        notices=tuple(notices),
        model_dir=files.draft_name if draft is not None else "",
        predictions=files.predictions_name if spec.output == "predictions" else "",
    )


def _check(spec: TrainSpec, info: AlgorithmInfo) -> None:
    if spec.by:
        raise InvalidInput(
            f"{info.name} cannot make one model per value of a field (by)", fix="Leave out 'by'."
        )
    if spec.partial_fit:
        raise InvalidInput(
            f"{info.name} cannot go on from an earlier model (partial_fit=true)",
            fix="Leave out partial_fit and train on all rows: there is no limit to them.",
        )
    if spec.model and not info.savable:
        raise InvalidInput(
            f"{info.name} only answers for the rows it is given, so there is no model to keep",
            fix="Leave out 'into'.",
        )
    if spec.kfold_cv:
        check_folds(spec, info)


def _fit(algorithm: Algorithm, info: AlgorithmInfo, data: TrainingSet, run: Run) -> Fitted:
    """Libraries say in a ValueError what they cannot take; that is the caller's to know."""
    try:
        return algorithm.fit(data, run)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        first = str(error).strip().partition("\n")[0][:300]
        raise InvalidInput(
            f"{info.name} could not learn from these rows",
            cause=first,
            fix="Check its parameters and the fields.",
        ) from error


def _check_held_out(info: AlgorithmInfo, fitted: Fitted) -> None:
    if fitted.training_scores is not None:
        raise InvalidInput(f"{info.name} cannot answer for rows it has not seen", fix="Leave out test_size.")


def _plan(spec: TrainSpec, info: AlgorithmInfo, fitted: Fitted, prepared: PreparedRows) -> OutputPlan:
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
    spec: TrainSpec,
    fitted: Fitted,
    prepared: PreparedRows,
    formats: ModelFormats,
    files: TrainingFiles,
    run: Run,
):  # type: ignore[no-untyped-def]
    """Write the model, open it again, and record what it says about a few rows."""
    folder = files.draft()
    n_rows = len(prepared.x)
    rng = np.random.default_rng(spec.seed)
    rows = (
        np.arange(n_rows)
        if n_rows <= SAMPLE_ROWS
        else np.sort(rng.choice(n_rows, SAMPLE_ROWS, replace=False))
    )
    saved = formats.save(fitted, cast_rows(prepared.x[rows], fitted.dtype), folder)
    picked = np.unique(np.linspace(0, n_rows - 1, GOLDEN_ROWS).astype(np.int64))
    inputs = cast_rows(prepared.x[picked], saved.dtype)
    scorer = formats.load(saved, folder, threads=run.threads)
    return saved, GoldenVectors.of(inputs, scorer.score(inputs))


def _answer(
    spec: TrainSpec,
    fitted: Fitted,
    prepared: PreparedRows,
    chosen: Chosen,
    plan: OutputPlan,
    files: TrainingFiles,
    run: Run,
    notices: list[Notice],
) -> tuple[tuple[str, float], ...]:
    """Write the predictions where they are asked for; gives the metrics."""
    x, target, train = prepared.x, prepared.target, prepared.train
    if spec.output == "predictions":
        options = {"as_name": spec.as_name, "probabilities": spec.probabilities}
        sink = files.predictions(plan.columns(as_name=spec.as_name, probabilities=spec.probabilities))
        n_sent = chosen.table.n_rows
        answers = answer_all(fitted, x, chosen.selection.kept, n_sent, plan, sink, run, **options)
        sink.close()
    else:
        step = -(-len(x) // METRIC_ROWS)
        if step > 1 and fitted.training_scores is None:
            notices.append(
                Notice("info", f"metrics come from every {step}th of {len(x):,} rows (output={spec.output})")
            )
            x = x[::step]
            train = None if train is None else train[::step]
            target = None if target is None else target.every(step)
        answers = answer_rows(fitted, x, plan.task)
    if train is None:
        return tuple(answers.metrics(target, slice(None), x, spec.seed).items())
    learned = answers.metrics(target, train, x, spec.seed)
    held = answers.metrics(target, ~train, x, spec.seed)
    return (*learned.items(), *((f"test_{name}", value) for name, value in held.items()))
