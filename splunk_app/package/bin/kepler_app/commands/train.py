"""``keplertrain``: rows up into a durable training job, rows back with predictions."""

from __future__ import annotations

import os
import time

from kepler_app.chunks import Reply
from kepler_app.errors import SearchError, in_search_words
from kepler_app.grammar import TrainRequest, parse_train
from kepler_app.rows import Slice, cut, read_header, remapped, sendable, table_body
from kepler_app.session import ServiceCommand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from kepler_app.spool import RowSpool
    from kepler_app.streams import TrainUpload


# What the toolkit calls a fold's figures, in its order.
_FOLD_NAMES = {
    "accuracy": "accuracy",
    "f1": "f1_weighted",
    "precision": "precision_weighted",
    "recall": "recall_weighted",
    "rmse": "neg_mean_squared_error",
    "r2": "r2",
}


def fold_table(metrics: Any, folds: int) -> tuple[list[str], list[list[str]]]:
    """One row for each fold out of figures named ``cv_<name>_<fold>``, under the toolkit's names."""
    found: dict[str, dict[int, float]] = {}
    for metric in metrics:
        name, _, fold = metric.name.removeprefix("cv_").rpartition("_")
        if metric.name.startswith("cv_") and fold.isdigit():
            found.setdefault(name, {})[int(fold)] = metric.value
    names = [name for name in _FOLD_NAMES if name in found]
    names += [name for name in found if name not in _FOLD_NAMES]
    rows: list[list[str]] = []
    for fold in range(1, folds + 1):
        values = [(name, found[name].get(fold)) for name in names]
        cells = [-value * value if name == "rmse" and value is not None else value for name, value in values]
        rows.append([str(fold), *("" if cell is None else repr(cell) for cell in cells)])
    return ["fold", *(_FOLD_NAMES.get(name, name) for name in names)], rows


class KeplerTrain(ServiceCommand):
    """Events: on the search head with all rows. Each chunk goes up as it comes; only the last is answered with rows."""

    name = "keplertrain"

    def __init__(self) -> None:
        super().__init__()
        self.request = TrainRequest()
        self._request_id = os.urandom(16).hex()
        self._columns: list[str] = []  # of the first rows, and so of the upload
        self._upload: TrainUpload | None = None
        self._accepted: Any = None
        self._spool: RowSpool | None = None

    def getinfo(self, metadata: dict[str, Any]) -> dict[str, Any]:
        info = self.plan(metadata)
        info.refuse_realtime(self.name)
        self.request = parse_train(info.raw_args)
        return {"type": "events"}

    def execute(self, body: bytes, finished: bool) -> Reply:
        if self.info.preview:
            return Reply()
        columns, start = read_header(body)
        for slice_ in cut(body, start, len(columns)):
            self._send(slice_, columns)
        if not finished:
            return Reply()
        if self._upload is None:
            raise SearchError("No rows came to keplertrain. Check the search before it and its time range.")
        return self._finish()

    def _send(self, slice_: Slice, columns: list[str]) -> None:
        """Upload one slice and keep its rows where they are to be given back."""
        if self._upload is None:
            self._open(columns)
        assert self._upload is not None
        if self._spool is not None:
            self._spool.add(slice_, columns)
        if self.request.dry_run:
            return
        raw = slice_.raw
        if columns != self._columns:
            self._check_late(columns)
            raw = b"\n".join(remapped(raw, columns, self._columns)) + b"\n"
        began = time.monotonic()
        self._upload.send(raw)
        self.timed("upload", began)

    def _check_late(self, columns: list[str]) -> None:
        """Fields that only later chunks have cannot be trained on: an error when asked for by name, else said."""
        late = [name for name in columns if name not in self._columns and not name.startswith("__mv_")]
        named = [name for name in self.request.named_fields() if name in late]
        if named:
            raise SearchError(
                f"The field {named[0]!r} is missing in the first rows and comes only later. Put "
                f"'| fillnull value=\"\" {named[0]}' before keplertrain, so that all rows have it."
            )
        if late and any("*" in pattern for pattern in self.request.features):
            listed = ", ".join(late[:5]) + (", ..." if len(late) > 5 else "")
            self.say(
                "WARN",
                f"{len(late)} fields are missing in the first rows and were left out of the training: {listed}. "
                "Name them with '| fillnull' before keplertrain to include them.",
            )

    def _open(self, columns: list[str]) -> None:
        """Have algorithm, parameters and names checked before a row is sent."""
        client = self.client
        from kepler.v1 import training_pb2
        from kepler_app.streams import TrainUpload

        request = self.request
        began = time.monotonic()
        options = training_pb2.TrainOptions(
            output=request.output,
            nulls=request.nulls,
            categoricals=request.categoricals,
            seed=request.seed or 0,
            has_seed=request.seed is not None,
            test_size=request.test_size,
            kfold_cv=request.kfold_cv,
            partial_fit=request.partial_fit,
            probabilities=request.probabilities,
            tags=request.tags,
            dry_run=request.dry_run,
        )
        self._columns = columns
        self._upload = TrainUpload(client)
        self._accepted = self._upload.open(
            training_pb2.TrainOpen(
                caller=self.caller(),
                algorithm=request.algorithm,
                target=request.target,
                features=request.features,
                by=request.by,
                into=request.into,
                params=request.params,
                options=options,
                columns=sendable(columns),
                request_id=self._request_id,
                **{"as": request.as_name},
            )
        )
        self.say_notices(self._accepted.notices)
        self.note(algorithm=self._accepted.algorithm, model=self._accepted.model)
        if request.output == "predictions" and request.wait and not request.dry_run:
            from kepler_app.spool import RowSpool

            self._spool = RowSpool(self.info.dispatch_dir)
        self.timed("open", began)

    def _finish(self) -> Reply:
        if self.request.dry_run:
            return self._dry_run()
        assert self._upload is not None
        began = time.monotonic()
        queued = self._upload.finish()
        self.timed("queue", began)
        self.note(job_id=queued.job_id, rows=queued.rows)
        if not self.request.wait:
            return self._later(queued.job_id, queued.rows, "queued")
        from kepler_app.jobs import wait_for

        began = time.monotonic()
        job, ended = wait_for(self.client, self.caller(), queued.job_id, self.request.timeout_s)
        self.timed("train", began)
        if not ended:
            return self._later(queued.job_id, queued.rows, "running")
        self.say_notices(job.notices)
        self.note(model=job.model)
        if job.state != job.SUCCEEDED:
            raise SearchError(
                in_search_words(job.error) or f"The training job {job.id} was cancelled.",
                job.error_detail.code or "Cancelled",
            )
        if self.request.fold_rows:
            return Reply([table_body(*fold_table(job.metrics, self.request.kfold_cv))])
        if self._spool is None:
            return self._summary(job)
        return self._predictions(job)

    def _dry_run(self) -> Reply:
        accepted, self._upload = self._accepted, None
        columns = ["algorithm", "model", "used_fields", "message"]
        fields = ", ".join(accepted.used_fields)
        return Reply(
            [
                table_body(
                    columns, [[accepted.algorithm, accepted.model, fields, "checked, nothing was trained"]]
                )
            ]
        )

    def _later(self, job_id: str, rows: int, state: str) -> Reply:
        """One row with the job's id: the job goes on without the search."""
        message = f"The training goes on. Follow it with '| keplerjobs status {job_id}'."
        if self.request.wait:
            self.say(
                "WARN", f"The training took longer than timeout={self.request.timeout_s:g} seconds. {message}"
            )
        columns = ["job_id", "state", "algorithm", "model", "rows", "message"]
        row = [job_id, state, self._accepted.algorithm, self._accepted.model, str(rows), message]
        return Reply([table_body(columns, [row])])

    def _summary(self, job: Any) -> Reply:
        """One row about the training."""
        cells = {
            "model": job.model,
            "algorithm": self._accepted.algorithm,
            "state": "succeeded",
            "rows": str(job.rows),
            "seconds": f"{max(0.0, job.finished_at - job.started_at):.3f}",
            "job_id": job.id,
        }
        for metric in job.metrics:
            cells.setdefault(metric.name, repr(metric.value))
        return Reply([table_body(list(cells), [list(cells.values())])])

    def _predictions(self, job: Any) -> Reply:
        """All rows with the columns the job computed for them."""
        from kepler.v1 import jobs_pb2
        from kepler_app.rows import fragments
        from kepler_app.streams import predictions

        assert self._spool is not None
        began = time.monotonic()
        replies = predictions(self.client, jobs_pb2.GetJobRequest(caller=self.caller(), id=job.id))
        first = next(replies, None)
        new = list(first.opened.output_columns) if first is not None else []

        def parts() -> Iterator[list[bytes]]:
            for reply in replies:
                yield fragments(reply.scored.values, reply.scored.rows, reply.scored.one_line_per_row)

        body, size = self._spool.with_columns(new, parts())
        self.timed("read", began)
        return Reply(body, size=size)

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()
        try:
            if self._upload is not None:
                self._upload.abandon()
        except SearchError as error:  # that is how the service confirms
            self.note(abandoned=error.code)
        finally:
            super().close()
