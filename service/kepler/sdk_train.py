"""``kp.train``: train a model, by the algorithm's name or by its shortcut on the same object."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, overload

from kepler.client import KeplerClient
from kepler.client.records import AlgorithmDescription, Table, TrainOrder, TrainTicket
from kepler.core.errors import Cancelled, InternalError, InvalidInput, NotReady
from kepler.core.jobs import JobRecord, JobState, Notice
from kepler.sdk_algorithms import SHORTCUTS, canonical
from kepler.sdk_data import Data, as_source, guess_task
from kepler.sdk_predict import Predict, Predictions, csv_rows
from kepler.sdk_progress import Progress, counted, shown

ParamValue: TypeAlias = "str | int | float | bool | Sequence[int] | None"
"""Value of a hyperparameter; the algorithm checks type and range."""


def param_text(value: ParamValue) -> str:
    """A hyperparameter as the service reads it.

    >>> param_text(True), param_text((100, 50)), param_text(None), param_text(0.1)
    ('true', '100-50', 'none', '0.1')
    """
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    return "-".join(str(item) for item in value)


class TrainedModel:
    """A training: its job, and the model version once it has succeeded.

    Attributes
    ----------
    job
        The job as last seen; `wait` refreshes it.
    notices
        Dropped rows and fields, defaults taken: each one sentence.
    """

    def __init__(
        self, client: KeplerClient, ticket: TrainTicket, job: JobRecord, extra: Iterable[Notice] = ()
    ) -> None:
        self._client, self._ticket, self._extra = client, ticket, tuple(extra)
        self.job = job

    def __repr__(self) -> str:
        figures = ", ".join(f"{name}={value:.4g}" for name, value in self.metrics.items())
        return (
            f"<{self.job.model or self._ticket.algorithm} {self.job.state}{': ' if figures else ''}{figures}>"
        )

    @property
    def algorithm(self) -> str:
        """Canonical name of the algorithm."""
        return self._ticket.algorithm

    @property
    def name(self) -> str:
        """Full name with version, ``app.search/failure@3``. Raises `NotReady` while there is none."""
        if not self.job.model:
            raise NotReady(
                "There is no model",
                cause=f"The job is {self.job.state}" if not self.job.state.final else "into= was not given",
                fix="Call wait()" if not self.job.state.final else "Train with into='a name'",
            )
        return self.job.model

    @property
    def version(self) -> int:
        """Number of the new version."""
        return int(self.name.rpartition("@")[2])

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of the training, ``{"accuracy": 0.97}``; empty before its end."""
        return dict(self.job.metrics)

    @property
    def notices(self) -> list[Notice]:
        said = dict.fromkeys((*self._extra, *self._ticket.notices, *self.job.notices))
        return list(said)

    def wait(self, *, progress: bool | None = None) -> TrainedModel:
        """Wait for the end; raises the job's error when it failed or was cancelled."""
        with shown(progress) as bar:
            self._wait(bar)
        return self

    def _wait(self, bar: Progress) -> None:
        if not self.job.state.final:
            for job in self._client.watch_job(self.job.id):
                self.job = job
                bar.job(job)
        if self.job.state is not JobState.SUCCEEDED:
            raise job_error(self.job)

    def cancel(self) -> None:
        """Cancel the job; nothing happens when it has ended."""
        self.job = self._client.cancel_job(self.job.id)

    def predict(self, data: Data, *, probabilities: bool = False) -> Predictions:
        """Score ``data`` with exactly this version; see `Predict`."""
        return Predict(lambda: self._client)(self.name, data, probabilities=probabilities)

    def predictions(self) -> list[dict[str, str]]:
        """New columns of the training rows, for a training with ``output="predictions"``."""
        with self._client.read_predictions(self.job.id) as stream:
            parts = [scored.values for _, scored in stream]
        names = stream.opened.output_columns
        return [dict(zip(names, row, strict=True)) for part in parts for row in csv_rows(part)]

    def summary(self, view: str = "default") -> Table:
        """What the model learned. Views: default, params, importance, metrics, schema."""
        return self._client.summarize(self.name, view=view)[1]


def job_error(job: JobRecord) -> Exception:
    """What a job that did not succeed raises."""
    if job.failure:
        return job.failure.to_error()
    if job.state is JobState.CANCELLED:
        return Cancelled(f"The job {job.id} was cancelled")
    return InternalError(f"The job {job.id} is {job.state} and says no more")


class Shortcut:
    """One algorithm of `Train`; called like it, without ``algorithm=``."""

    def __init__(self, algorithm: str, owner: Train | None = None) -> None:
        self._algorithm, self._owner = algorithm, owner

    @overload
    def __get__(self, owner: None, kind: type[Train]) -> Shortcut: ...
    @overload
    def __get__(self, owner: Train, kind: type[Train]) -> Shortcut: ...
    def __get__(self, owner: Train | None, kind: type[Train]) -> Shortcut:
        return Shortcut(self._algorithm, owner)

    def __repr__(self) -> str:
        return f"<shortcut for kp.train(..., algorithm={self._algorithm!r})>"

    def __call__(
        self,
        data: Data,
        *,
        target: str = "",
        features: str | Iterable[str] = "*",
        into: str = "",
        task: str = "auto",
        by: str | Iterable[str] = (),
        as_name: str = "",
        output: str = "none",
        nulls: str = "drop",
        categoricals: str = "onehot",
        seed: int | None = None,
        test_size: float = 0.0,
        kfold_cv: int = 0,
        partial_fit: bool = False,
        probabilities: bool = False,
        tags: Iterable[str] = (),
        dry_run: bool = False,
        wait: bool = True,
        progress: bool | None = None,
        params: Mapping[str, ParamValue] | None = None,
        **more: ParamValue,
    ) -> TrainedModel:
        """Train with this algorithm; see `Train.__call__`."""
        if self._owner is None:
            raise InvalidInput("This shortcut belongs to no session", fix="Use kp.train.<algorithm>(...)")
        return self._owner(
            data,
            algorithm=self._algorithm,
            target=target,
            features=features,
            into=into,
            task=task,
            by=by,
            as_name=as_name,
            output=output,
            nulls=nulls,
            categoricals=categoricals,
            seed=seed,
            test_size=test_size,
            kfold_cv=kfold_cv,
            partial_fit=partial_fit,
            probabilities=probabilities,
            tags=tags,
            dry_run=dry_run,
            wait=wait,
            progress=progress,
            params=params,
            **more,
        )


class Train:
    """Trains models. Call it with an algorithm's name, or use a shortcut: ``kp.train.lightgbm(...)``.

    Every algorithm of the service is a shortcut too, by its name or in snake case, also those of plugins.
    """

    lightgbm = Shortcut("lightgbm")
    xgboost = Shortcut("xgboost")
    catboost = Shortcut("catboost")
    random_forest = Shortcut("random_forest")
    extra_trees = Shortcut("extra_trees")
    decision_tree = Shortcut("decision_tree")
    gradient_boosting = Shortcut("gradient_boosting")
    hist_gradient_boosting = Shortcut("hist_gradient_boosting")
    knn = Shortcut("knn")
    svm = Shortcut("svm")
    mlp = Shortcut("mlp")
    sgd = Shortcut("sgd")
    linear_regression = Shortcut("linear_regression")
    logistic_regression = Shortcut("logistic_regression")
    ridge = Shortcut("ridge")
    lasso = Shortcut("lasso")
    elastic_net = Shortcut("elastic_net")
    gaussian_nb = Shortcut("gaussian_nb")
    bernoulli_nb = Shortcut("bernoulli_nb")
    kmeans = Shortcut("kmeans")
    birch = Shortcut("birch")
    dbscan = Shortcut("dbscan")
    pca = Shortcut("pca")
    standard_scaler = Shortcut("standard_scaler")
    robust_scaler = Shortcut("robust_scaler")
    isolation_forest = Shortcut("isolation_forest")
    one_class_svm = Shortcut("one_class_svm")
    local_outlier_factor = Shortcut("local_outlier_factor")

    def __init__(self, client: Callable[[], KeplerClient]) -> None:
        self._client = client

    def algorithms(self, name: str = "") -> list[AlgorithmDescription]:
        """Algorithms that can be trained, with their parameters; one when ``name`` is given."""
        return self._client().algorithms(name)

    def __getattr__(self, name: str) -> Shortcut:
        if name.startswith("_"):
            raise AttributeError(name)
        folded = name.replace("_", "").lower()
        for known in self._client().algorithms():
            if folded in (item.replace("_", "").lower() for item in (known.name, *known.aliases)):
                return Shortcut(known.name, self)
        raise AttributeError(f"the service has no algorithm {name!r}; see kp.train.algorithms()")

    def __dir__(self) -> list[str]:
        return sorted({"algorithms", *SHORTCUTS})

    def __call__(
        self,
        data: Data,
        *,
        algorithm: str,
        target: str = "",
        features: str | Iterable[str] = "*",
        into: str = "",
        task: str = "auto",
        by: str | Iterable[str] = (),
        as_name: str = "",
        output: str = "none",
        nulls: str = "drop",
        categoricals: str = "onehot",
        seed: int | None = None,
        test_size: float = 0.0,
        kfold_cv: int = 0,
        partial_fit: bool = False,
        probabilities: bool = False,
        tags: Iterable[str] = (),
        dry_run: bool = False,
        wait: bool = True,
        progress: bool | None = None,
        params: Mapping[str, ParamValue] | None = None,
        **more: ParamValue,
    ) -> TrainedModel:
        """Train a model on ``data``, as a durable job of the service.

        Parameters
        ----------
        data
            A data source, the path of a CSV file, or a table in memory.
        algorithm
            ``LogisticRegression``, ``lightgbm``, ``sklearn.linear_model.Lars``, ...; see ``kp.train.algorithms()``.
        target
            Column to predict; empty for clustering, anomalies and transformations.
        features
            Columns to learn from, ``*`` allowed in names; all but the target by default.
        into
            Name of the model: ``failure`` (private) or ``app:failure``. Without it nothing is kept.
        task
            ``classification`` or ``regression`` where a shortcut means both; ``auto`` looks at the target's
            first rows and says in ``notices`` what it took.
        by
            Train one model per combination of these columns.
        output
            ``predictions`` keeps the answers for the training rows, ``none`` doesn't.
        nulls
            Rows with missing values: ``drop``, ``impute`` or ``native``.
        categoricals
            Text columns: ``onehot``, ``target`` or ``native``.
        seed
            42 unless given.
        test_size
            Share of rows held out for the metrics, 0 for none.
        kfold_cv
            Folds of a cross-validation, 0 for none.
        partial_fit
            Go on from the newest version of ``into``.
        dry_run
            Check and describe, train nothing.
        wait
            Wait for the job's end; else look at it with ``wait()``.
        progress
            Show a bar on stderr; by default when that is a terminal.
        params, more
            Hyperparameters: ``n_estimators=200``, or a mapping for names that mean something here already.

        Returns
        -------
        TrainedModel
            Metrics, notices, ``predict``, ``summary``.

        Raises
        ------
        InvalidInput
            Unknown algorithm (the nearest are named), parameter or column; data that cannot be learnt from.
        MissingExtra
            The service lacks the library of this algorithm.
        """
        source = as_source(data)
        client = self._client()
        algorithm, said = canonical(algorithm, task, lambda: guess_task(source, target), client.algorithms)
        order = TrainOrder(
            algorithm=algorithm,
            columns=source.columns,
            target=target,
            features=words(features),
            by=words(by),
            into=into,
            as_name=as_name,
            params={name: param_text(value) for name, value in {**(params or {}), **more}.items()},
            output=output,
            nulls=nulls,
            categoricals=categoricals,
            seed=seed,
            test_size=test_size,
            kfold_cv=kfold_cv,
            partial_fit=partial_fit,
            probabilities=probabilities,
            tags=tuple(tags),
            dry_run=dry_run,
            request_id=uuid.uuid4().hex,
        )
        with shown(progress) as bar:
            slices = counted(source.slices(), bar, int(getattr(source, "size_bytes", 0)))
            ticket = client.train(order, slices)
            extra = (Notice("info", said),) if said else ()
            if not ticket.job_id:
                return TrainedModel(client, ticket, _dry(ticket, client.user), extra)
            model = TrainedModel(client, ticket, client.job(ticket.job_id), extra)
            if wait:
                model._wait(bar)
        return model


def words(names: str | Iterable[str]) -> tuple[str, ...]:
    """Column names from a list, or from text with commas or spaces between.

    >>> words("a, b_* c"), words(["with space"])
    (('a', 'b_*', 'c'), ('with space',))
    """
    if isinstance(names, str):
        return tuple(name for name in re.split(r"[,\s]+", names) if name)
    return tuple(names)


def _dry(ticket: TrainTicket, owner: str) -> JobRecord:
    """Stands for the job that a dry run has not."""
    return JobRecord(
        id="",
        kind="train",
        state=JobState.SUCCEEDED,
        owner=owner,
        subject=ticket.algorithm,
        created_at=0.0,
        notices=ticket.notices,
    )
