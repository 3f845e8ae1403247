"""Turn an upload of rows into a durable training job."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from kepler.core.algorithms import AlgorithmInfo
from kepler.core.datasets import expand_fields
from kepler.core.errors import InvalidInput, NotFound, Overloaded
from kepler.core.groups import check_by
from kepler.core.jobs import JobRecord, JobState, Notice
from kepler.core.manifest import Manifest
from kepler.core.names import parse_new, parse_ref
from kepler.core.training import CATEGORICALS, NULLS, OUTPUTS, TrainOrder, TrainSpec
from kepler.ports.algorithms import Algorithms
from kepler.ports.jobs import JobRunner, TrainWorker
from kepler.ports.models import ModelStore
from kepler.ports.rows import RowSpool, RowSpools
from kepler.ports.security import AuditLog
from kepler.usecases.identity import Caller

_REQUESTS = uuid.UUID("3c1b0f0e-6a55-4b8e-9a2a-6f6d1f1f7a10")  # namespace of request ids, arbitrary and fixed


@dataclass(frozen=True, slots=True)
class TrainLimits:
    """Bounds of what one caller may ask for."""

    max_upload_bytes: int
    queue_limit: int
    threads: int


@dataclass(slots=True)
class Upload:
    """Rows on their way into one job. `finish` makes the job; until then `abort` leaves nothing behind."""

    spec: TrainSpec
    info: AlgorithmInfo
    used_fields: tuple[str, ...]
    notices: tuple[Notice, ...]
    dry_run: bool
    _train: TrainModel
    _caller: Caller
    _folder: Path
    _spool: RowSpool | None
    _bytes: int = 0

    def write(self, slice_: bytes) -> None:
        """Append whole CSV records. Raises `InvalidInput` for ragged rows, `Overloaded` past a limit."""
        if self._spool is None:
            return
        self._bytes += len(slice_)
        limit = self._train.limits.max_upload_bytes
        if self._bytes > limit:
            raise Overloaded(
                f"The rows are larger than the {limit // 2**20} MB the service takes for one training",
                fix="Send fewer fields or rows, or raise KEPLER_TRAINING__MAX_UPLOAD_BYTES.",
            )
        self._spool.write(slice_)

    def finish(self) -> JobRecord:
        """Make rows and job durable. Raises `InvalidInput` when no row came."""
        if self._spool is None:
            return self._train.jobs.get(self.spec.job_id)
        if self._spool.rows == 0:
            raise InvalidInput("There are no rows to train on", fix="Check the search before the command.")
        digest = self._spool.finish()
        spec = replace(self.spec, rows=self._spool.rows, data_sha256=digest)
        self._train.audit.append(  # before: what is not on record is not done
            who=self._caller.user,
            action="train",
            what=spec.model or spec.algorithm,
            outcome="queued",
            detail={"job": spec.job_id, "rows": str(spec.rows), "sid": spec.search.sid},
        )
        record = self._train.jobs.submit_training(spec)
        self._spool = None  # the rows are the job's now: nothing here may drop them any more
        return record

    def abort(self) -> None:
        """Drop the rows of an upload that was not finished; can be repeated, and after `finish` does nothing."""
        if self._spool is not None:
            self._spool.abort()
            self._train.drop_empty(self._folder)


class TrainModel:
    """Opens trainings (capability: train).

    Parameters
    ----------
    verify
        Checks signature and files of the version in a folder, which must hold the full name given too, and
        gives its manifest.
    """

    def __init__(
        self,
        algorithms: Algorithms,
        models: ModelStore,
        jobs: JobRunner,
        spools: RowSpools,
        worker: TrainWorker,
        audit: AuditLog,
        limits: TrainLimits,
        verify: Callable[[Path, str], Manifest],
    ) -> None:
        self._algorithms = algorithms
        self._verify = verify
        self._models = models
        self._spools = spools
        self._worker = worker
        self.jobs = jobs
        self.audit = audit
        self.limits = limits

    def open(self, caller: Caller, order: TrainOrder) -> Upload:
        """Check everything that can be known before the rows come, and open the way for them.

        Raises `InvalidInput` for a wrong algorithm, parameter, field or option, `Overloaded` when too many
        jobs wait.
        """
        _check_options(order)
        info = self._algorithms.find(order.algorithm)
        params = self._algorithms.check_params(info, order.params)
        if info.task.needs_target and not order.target:
            raise InvalidInput(
                f"{info.name} predicts a field and none is named",
                fix=f"Write: {info.name} <field to predict> from <fields>.",
            )
        if order.target and not info.task.needs_target:
            raise InvalidInput(
                f"{info.name} has no field to predict, but {order.target!r} is named as one",
                fix=f"Write: {info.name} <fields> without 'from'.",
            )
        if order.target:
            expand_fields((order.target,), order.columns)  # there, or an error that names the nearest
        by = _group_fields(order)
        features = expand_fields(
            order.features, order.columns, exclude=(*by, *((order.target,) if order.target else ()))
        )
        model = parse_new(order.into, user=caller.user, app=caller.app) if order.into else None
        if model is not None:
            caller.check_sees(model)
            if not info.savable:
                raise InvalidInput(
                    f"{info.name} cannot be applied to new rows, so it makes no model to keep",
                    fix="Leave out 'into'.",
                )
        parent, parent_sha256 = self._parent(caller, order) if order.partial_fit else ("", "")
        spec = TrainSpec(
            job_id=self._job_id(caller, order.request_id),
            algorithm=info.name,
            features=features,
            columns=order.columns,
            target=order.target,
            by=by,
            model=str(model) if model else "",
            as_name=order.as_name,
            params=params,
            output=order.output,
            nulls=order.nulls,
            categoricals=order.categoricals,
            seed=order.seed,
            test_size=order.test_size,
            kfold_cv=order.kfold_cv,
            partial_fit=order.partial_fit,
            probabilities=order.probabilities,
            tags=order.tags,
            parent=parent,
            parent_sha256=parent_sha256,
            owner=caller.user,
            search=caller.search,
            threads=self.limits.threads,
        )
        used = (*features, *((order.target,) if order.target else ()), *by)
        folder = self.jobs.folder(spec.job_id)
        spool: RowSpool | None = None
        if not order.dry_run and not self._exists(spec.job_id):
            if (
                len(self.jobs.list(state=JobState.QUEUED, limit=self.limits.queue_limit))
                >= self.limits.queue_limit
            ):
                raise Overloaded(
                    f"{self.limits.queue_limit} trainings wait already",
                    fix="Run the search again later; | keplerjobs shows the queue.",
                    retry_after_s=60,
                )
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                spool = self._spools.open(folder, order.columns, used)
            except BaseException:
                self.drop_empty(folder)
                raise
            self._worker.prewarm()
        return Upload(spec, info, used, (), order.dry_run, self, caller, folder, spool)

    def drop_empty(self, folder: Path) -> None:
        """Remove a job folder that holds nothing."""
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def _job_id(self, caller: Caller, request_id: str) -> str:
        if request_id:
            return str(uuid.uuid5(_REQUESTS, f"{caller.user}\n{request_id}"))
        return str(uuid.uuid4())

    def _exists(self, job_id: str) -> bool:
        try:
            self.jobs.get(job_id)
        except NotFound:
            return False
        return True

    def _parent(self, caller: Caller, order: TrainOrder) -> tuple[str, str]:
        """Folder and digest of the version to go on from; empty when there is none yet.

        What is trained from it is signed anew, so nothing may enter here that was not signed before.
        """
        if not order.into:
            raise InvalidInput(
                "partial_fit=true goes on from a model and none is named", fix="Add 'into <model>'."
            )
        name = parse_new(order.into, user=caller.user, app=caller.app)
        try:
            version = self._models.resolve(parse_ref(str(name), user=caller.user, app=caller.app))
        except NotFound:
            return "", ""
        return version.folder, self._verify(Path(version.folder), version.full_name).digest


def _group_fields(order: TrainOrder) -> tuple[str, ...]:
    """The fields after ``by``; within a group each has one value, so it is no field to learn from."""
    if not order.by:
        return ()
    by = expand_fields(order.by, order.columns)
    check_by(by)
    for name in by:
        if name == order.target or name in order.features:
            raise InvalidInput(
                f"Field {name!r} chooses the group, so it has one value within each",
                fix="Leave it out before 'by'.",
            )
    return by


def _check_options(order: TrainOrder) -> None:
    for name, value, known in (
        ("output", order.output, OUTPUTS),
        ("nulls", order.nulls, NULLS),
        ("categoricals", order.categoricals, CATEGORICALS),
    ):
        if value not in known:
            raise InvalidInput(f"Invalid value for {name}: {value[:40]!r}", fix=f"Use {', '.join(known)}.")
    if not 0.0 <= order.test_size < 1.0:
        raise InvalidInput(
            f"Invalid value for test_size: {order.test_size:g}", fix="Use a share from 0 up to 0.9."
        )
    if order.kfold_cv and not 2 <= order.kfold_cv <= 100:
        raise InvalidInput(f"Invalid value for kfold_cv: {order.kfold_cv}", fix="Use 2 to 100 folds.")
    if order.kfold_cv and order.into:
        raise InvalidInput(
            "kfold_cv measures and keeps no model, so it does not go with 'into'",
            fix="Leave out one of them.",
        )
    if order.by:
        check_by(order.by, kfold_cv=order.kfold_cv, partial_fit=order.partial_fit)
