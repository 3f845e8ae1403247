"""Make a version that a gateway runs faster: `kepler optimize MODEL --for edge`.

What comes out is the next version of the same model. It is bounded work of seconds (the sizes of model and rows are),
so the caller waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from kepler.core.algorithms import Matrix
from kepler.core.errors import InvalidInput, Overloaded
from kepler.core.jobs import Notice
from kepler.core.manifest import Manifest
from kepler.core.optimization import Candidate, Optimization
from kepler.core.profile_sample import sample_rows
from kepler.core.records import RecordBatch
from kepler.core.saved import SavedModel
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.core.versions import VersionRecord
from kepler.ports.models import ModelStore
from kepler.ports.optimizing import EdgeOptimizer
from kepler.ports.packages import Packages
from kepler.ports.security import AuditLog
from kepler.usecases.auditing import audited
from kepler.usecases.identity import Caller
from kepler.usecases.manage import ManageModels

TARGETS = ("edge",)
MAX_ROWS = 20_000  # more make neither ranges nor agreement better
PROFILE_ROWS = 4_000
MODEL_FILE = "model.onnx"

ReadFile = Callable[[Path, Manifest, str], bytes]


@dataclass(frozen=True, slots=True)
class Optimized:
    """What was found, and the ``version`` made of it; None in a dry run."""

    optimization: Optimization
    chosen: Candidate
    version: VersionRecord | None
    notices: tuple[Notice, ...] = ()


class OptimizePlan:
    """One optimisation: rows are added, then `run` makes the version."""

    def __init__(
        self,
        uses: OptimizeVersion,
        caller: Caller,
        version: VersionRecord,
        manifest: Manifest,
        thresholds: Mapping[str, float],
        dry_run: bool,
    ) -> None:
        self._uses, self._caller = uses, caller
        self.version, self.manifest = version, manifest
        self.thresholds, self.dry_run = thresholds, dry_run
        self._parts: list[Matrix] = []
        self._rows = 0
        self._given = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """Columns to read of the calibration rows."""
        return self.manifest.required_fields

    def add(self, batch: RecordBatch) -> None:
        """Rows to calibrate on; of those beyond `MAX_ROWS` no more are kept. Raises `InvalidInput`."""
        self._given += batch.n_rows
        if self._rows < MAX_ROWS:
            x = self._prepared(batch, "error")[: MAX_ROWS - self._rows]
            self._parts.append(x)
            self._rows += len(x)

    def run(self) -> Optimized:
        """Raises `InvalidInput` with the reason when the version gains nothing."""
        return self._uses.run(self._caller, self)

    def rows(self) -> tuple[Matrix, str, tuple[Notice, ...]]:
        """Prepared rows, where they came from, and what to say about that."""
        if self._given:
            text = f"calibrated on {self._rows:,} of {self._given:,} rows given"
            return cast("Matrix", np.concatenate(self._parts)), text, (Notice("info", text),)
        drawn = sample_rows(self.manifest.profile, self.fields, PROFILE_ROWS)
        x = self._prepared(drawn, "null")
        text = f"calibrated on {len(x):,} rows drawn field by field from the training profile"
        notice = Notice("warn", f"{text}, as a version keeps no rows; give real ones with --calibration")
        return x, text, (notice,)

    def _prepared(self, batch: RecordBatch, on_missing: str) -> Matrix:
        manifest = self.manifest
        return manifest.preparation.transform(
            batch, dtype=np.dtype(manifest.model.dtype), on_missing=on_missing
        ).x


class OptimizeVersion:
    """Makes versions for gateways (capability: train).

    Parameters
    ----------
    verify
        Checks signature and hashes of a version folder and gives its manifest.
    read_file
        One file of a verified version.
    """

    def __init__(
        self,
        manage: ManageModels,
        models: ModelStore,
        optimizer: EdgeOptimizer,
        drafts: Packages,
        verify: Callable[[Path, str], Manifest],
        read_file: ReadFile,
        audit: AuditLog,
    ) -> None:
        self._manage, self._models, self._optimizer = manage, models, optimizer
        self._drafts, self._verify, self._read_file, self._audit = drafts, verify, read_file, audit
        self._busy = False

    def open(
        self,
        caller: Caller,
        model: str,
        target: str,
        thresholds: Mapping[str, float],
        *,
        dry_run: bool = False,
    ) -> OptimizePlan:
        """Begin with the version ``model`` means. Raises `InvalidInput` when it can have no form for gateways."""
        if target not in TARGETS:
            raise InvalidInput(
                f"Nothing is optimised for {target[:40]!r}", fix=f"Use --for {' or '.join(TARGETS)}."
            )
        version = self._manage.resolve(caller, model)
        manifest = self._verify(Path(version.folder), version.full_name)
        reason = _unfit(manifest)
        if reason:
            raise InvalidInput(
                f"{version.full_name} cannot be optimised", cause=reason, fix="Deploy it as it is."
            )
        return OptimizePlan(self, caller, version, manifest, thresholds, dry_run)

    def run(self, caller: Caller, plan: OptimizePlan) -> Optimized:
        """See `OptimizePlan.run`."""
        if self._busy:
            raise Overloaded(
                "Another version is being optimised",
                cause="Two at once would measure each other",
                retry_after_s=5.0,
            )
        self._busy = True
        try:
            return self._run(caller, plan)
        finally:
            self._busy = False

    def _run(self, caller: Caller, plan: OptimizePlan) -> Optimized:
        version, manifest = plan.version, plan.manifest
        model = self._read_file(Path(version.folder), manifest, manifest.model.files[0])
        rows, source, notices = plan.rows()
        found = self._optimizer.optimize(manifest, model, rows, plan.thresholds, source)
        best = found.best
        if best is None:
            raise InvalidInput(
                f"{version.full_name} gains nothing from optimising",
                cause=found.why_not(),
                fix="Deploy it as it is.",
            )
        if plan.dry_run:
            return Optimized(found, best, None, notices)
        with audited(self._audit, caller.user, "version.optimize", version.full_name) as detail:
            made = self._register(caller, plan, found, best)
            detail["version"] = str(made.version)
        return Optimized(found, best, made, notices)

    def _register(
        self, caller: Caller, plan: OptimizePlan, found: Optimization, best: Candidate
    ) -> VersionRecord:
        before = plan.manifest
        draft = self._drafts.receive("optimize")
        try:
            draft.place({MODEL_FILE: best.model})
            metrics = _metrics(found, best)
            manifest = replace(
                before,
                name="",
                version=0,
                run_id="",
                files={},
                origin=None,
                owner=caller.user,
                parent=plan.version.full_name,
                metrics=metrics,
                golden=best.golden,
                summary={**before.summary, "optimization": found.table()},
                model=_saved(before, found, best),
            )
            spec = TrainSpec(
                job_id=draft.id,
                algorithm=before.algorithm,
                features=before.required_fields,
                columns=before.required_fields,
                target=before.target,
                model=str(plan.version.name),
                params=dict(before.params),
                nulls=before.preparation.nulls,
                tags=before.tags,
                owner=caller.user,
                search=before.search,
                rows=before.rows,
                data_sha256=before.data_sha256,
            )
            outcome = TrainOutcome(rows_used=before.rows, metrics=metrics)
            return self._models.register(spec, outcome, draft.draft(manifest, plan.version.name))
        finally:
            draft.close()


def _unfit(manifest: Manifest) -> str:
    if manifest.groups is not None:
        return "It holds one model per group, which gateways do not run"
    if manifest.model.format != "onnx":
        return f"It is stored as {manifest.model.format!r}, not as ONNX. {manifest.model.reason}".strip()
    if "optimization" in manifest.model.extra:
        return f"It was optimised already, from {manifest.parent}"
    return ""


def _saved(before: Manifest, found: Optimization, best: Candidate) -> SavedModel:
    """The manifest's ``model``: agreement is with the version it came from, and ``extra`` says what was done."""
    said = {
        "optimization": best.method,
        "optimized_for": "edge",
        "optimization_calibrated": found.calibrated_on,
        "optimization_agreement": f"{best.agreement:.6f}",
    }
    for item in best.thresholds:
        said[f"threshold {item.output}"] = f"{item.before!r} -> {item.after!r}"
    if "block_rows" in before.model.extra:
        said["block_rows"] = before.model.extra["block_rows"]
    return SavedModel(
        format="onnx",
        files=(MODEL_FILE,),
        dtype=before.model.dtype,
        outputs=before.model.outputs,
        agreement=best.largest_difference,
        checked_rows=found.check_rows,
        opset=before.model.opset,
        extra=said,
    )


def _metrics(found: Optimization, best: Candidate) -> tuple[tuple[str, float], ...]:
    return (
        ("edge_agreement", best.agreement),
        ("edge_latency_us_p50", best.cost.p50_us),
        ("edge_latency_us_p50_before", found.original.p50_us),
        ("edge_size_bytes", float(best.cost.size_bytes)),
        ("edge_size_bytes_before", float(found.original.size_bytes)),
    )
