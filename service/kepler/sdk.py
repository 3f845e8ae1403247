"""The Python SDK: ``import kepler as kp``.

Everything goes through the service. It is found by ``KEPLER_ADDRESS`` or in ``KEPLER_HOME``, or started::

    import kepler as kp

    model = kp.train.lightgbm("pumps.csv", target="failed", into="app:failure", n_estimators=200)
    print(model.metrics)
    kp.predict("app:failure", "today.csv", probabilities=True).to_csv("scored.csv")
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from kepler import sdk_data as data
from kepler.client import Access, KeplerClient
from kepler.client.fleet_records import DeploymentPlan, DeploymentRecord
from kepler.client.optimizing import OptimizedVersion
from kepler.client.packages import MovedVersion
from kepler.client.records import AlgorithmDescription, Identity, ModelVersion, ScoreOrder, Table
from kepler.core.jobs import JobRecord
from kepler.sdk_data import Data, as_source
from kepler.sdk_deploy import option_texts, wait_for_deployment
from kepler.sdk_predict import Predict, Predictions
from kepler.sdk_session import default_client, set_default
from kepler.sdk_train import ParamValue, Train, TrainedModel, param_text, words

__all__ = [
    "Data",
    "ParamValue",
    "Predictions",
    "Session",
    "TrainedModel",
    "connect",
    "data",
    "job",
    "jobs",
    "models",
    "predict",
    "score",
    "summary",
    "train",
]


class Session:
    """A connection to one service. Has what the module ``kepler`` has, for exactly this connection.

    Attributes
    ----------
    client
        The gRPC client behind it, with every call of the service.
    train, predict
        As ``kp.train`` and ``kp.predict``.
    deployments
        Deployments that were begun: their status, logs, traffic, rollback and removal.
    edge
        The fleet: devices, enrolment, rollouts, commands.
    """

    def __init__(self, client: KeplerClient) -> None:
        self.client = client
        self.deployments = client.deployments
        self.edge = client.edge
        self.train = Train(lambda: client)
        self.predict = Predict(lambda: client)

    def __repr__(self) -> str:
        return f"<Kepler at {self.client.address} for {self.client.user}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection. The service goes on running."""
        self.client.close()
        if default_is(self.client):
            set_default(None)

    def who_am_i(self) -> Identity:
        """Who the service takes us for, and with which capabilities."""
        return self.client.who_am_i()

    def models(self, pattern: str = "") -> list[ModelVersion]:
        """Newest version of each model; ``*`` in ``pattern`` stands for anything."""
        return self.client.models(pattern)

    def model(self, name: str) -> ModelVersion:
        """One version: ``failure``, ``app:failure@prod``, ``app.search/failure@3``."""
        return self.client.model(name)

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model, newest first."""
        return self.client.versions(name)

    def summary(self, name: str, view: str = "default", limit: int = 0) -> Table:
        """What a model learned. Views: default, params, importance, metrics, schema."""
        return self.client.summarize(name, view=view, limit=limit)[1]

    def set_alias(self, name: str, alias: str) -> ModelVersion:
        """Point an alias at a version, ``set_alias("app:failure@7", "prod")``."""
        return self.client.set_alias(name, alias)

    def rollback(self, name: str, alias: str) -> ModelVersion:
        """Move an alias back to the version it pointed at before."""
        return self.client.rollback(name, alias)

    def export_version(self, name: str, path: str | os.PathLike[str]) -> MovedVersion:
        """Save one version as a signed ``.kepler`` package, ``export_version("app:failure@7", "failure.kepler")``.

        Raises
        ------
        Conflict
            ``path`` exists already, or the version's files are not as they were signed.
        """
        return self.client.export_version(name, path)

    def import_version(self, path: str | os.PathLike[str], into: str = "") -> MovedVersion:
        """Make a ``.kepler`` package the next version of ``into``, or of the model it was exported from.

        Raises
        ------
        Denied
            No key that the service trusts has signed it.
        Conflict
            It is not as it was signed, or its model does not give the answers it gave when it was made.
        """
        return self.client.import_version(path, into=into)

    def optimize(
        self,
        name: str,
        *,
        target: str = "edge",
        calibration: Data | None = None,
        thresholds: Mapping[str, float] | None = None,
        dry_run: bool = False,
    ) -> OptimizedVersion:
        """Make the next version of a model as gateways run it fastest: single precision or INT8.

        Parameters
        ----------
        calibration
            Rows as the model will see them, a few thousand; None: drawn field by field from the training profile.
        thresholds
            Alerts by output (``anomaly_score``, ``probability(y=c)``) that are fitted anew.
        dry_run
            Report only; no version is made.

        Raises
        ------
        InvalidInput
            It gains nothing, with the reason: trees do not, nor does what answers otherwise in fewer bits.
        """
        source = None if calibration is None else as_source(calibration)
        return self.client.optimize_version(
            name,
            target=target,
            columns=source.columns if source else (),
            slices=source.slices() if source else (),
            thresholds=thresholds,
            dry_run=dry_run,
        )

    def plan(
        self, name: str, *, target: str, to: str = "", options: Mapping[str, object] | None = None
    ) -> DeploymentPlan:
        """What `deploy` would do, and cost; nothing changes."""
        return self.client.deployments.plan(name, target, to, option_texts(options))

    def deploy(
        self,
        name: str,
        *,
        target: str,
        to: str = "",
        options: Mapping[str, object] | None = None,
        deployment_id: str = "",
        wait: bool = False,
    ) -> DeploymentRecord:
        """Bring a version to where it serves, as a durable job.

        Parameters
        ----------
        name
            ``app:failure@prod``; the alias is resolved once, now.
        target
            ``edge``, or another of ``deployments.targets()``.
        to
            Chooses within the target: ``site=plant7`` for devices.
        options
            Of the target, such as ``{"stages": "0.1,1", "probation_s": 600}``.
        deployment_id
            Asked again with the same id, the same deployment comes back and nothing is done twice.
        wait
            Whether to wait for the end of the job; a failed one raises then.

        Raises
        ------
        InvalidInput
            For options the target does not know, and models it cannot run.
        """
        begun = self.client.deployments.deploy(name, target, to, option_texts(options), deployment_id)
        return wait_for_deployment(self.client, begun.id) if wait else begun

    def delete(self, name: str) -> tuple[int, ...]:
        """Delete one version (``m@3``) or a whole model (``m``); gives the versions that went."""
        return self.client.delete_model(name)[1]

    def jobs(self, state: str = "", *, limit: int = 100) -> list[JobRecord]:
        """The newest jobs; ``state`` is queued, running, succeeded, failed or cancelled."""
        return self.client.jobs(state, limit=limit)

    def job(self, job_id: str) -> JobRecord:
        """One job."""
        return self.client.job(job_id)

    def algorithms(self, name: str = "") -> list[AlgorithmDescription]:
        """Algorithms with their parameters; one when ``name`` is given."""
        return self.client.algorithms(name)

    def score(
        self,
        data: Data,
        *,
        method: str | Iterable[str],
        actual: str | Iterable[str],
        predicted: str | Iterable[str],
        by: str | Iterable[str] = (),
        params: Mapping[str, ParamValue] | None = None,
    ) -> Table:
        """Compare columns of ``data`` with each other.

        Parameters
        ----------
        method
            ``accuracy_score``, ``r2_score``, ...; several give a row each.
        actual, predicted
            Columns that are compared; a plain text is one name.
        by
            One result per combination of these columns.
        params
            Options of the method.
        """
        source = as_source(data)
        order = ScoreOrder(
            columns=source.columns,
            methods=words(method),
            actual=_names(actual),
            predicted=_names(predicted),
            by=_names(by),
            params={name: param_text(value) for name, value in (params or {}).items()},
        )
        return self.client.score(order, source.slices())[0]


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def default_is(client: KeplerClient) -> bool:
    """Whether ``client`` is the one ``kp.train`` and the others use."""
    from kepler import sdk_session

    return sdk_session._default is client


def connect(
    address: str = "",
    *,
    home: str | os.PathLike[str] = "",
    token: str = "",
    ca_file: str = "",
    user: str = "",
    app: str = "search",
) -> Session:
    """Connect to a service; from then on ``kp.train`` and the others use this connection.

    Without arguments the service of ``KEPLER_ADDRESS`` is taken, else the one of ``KEPLER_HOME`` (default
    ``~/.kepler``), which is started where none runs.

    Parameters
    ----------
    address
        ``host:port``. TLS is used unless the host is this machine and no CA is set.
    home
        Use, or start, the service of this folder.
    token, ca_file
        Default to ``KEPLER_TOKEN`` and ``KEPLER_CA_FILE``.
    user, app
        Who asks and from which Splunk app: they decide what a short model name means.

    Raises
    ------
    Unavailable
        The service did not start. One that is only unreachable is noticed with the first call.
    """
    client = KeplerClient(
        Access.resolve(address=address, home=home, token=token, ca_file=ca_file), user=user, app=app
    )
    set_default(client)
    return Session(client)


train = Train(default_client)
predict = Predict(default_client)


def _session() -> Session:
    return Session(default_client())


def models(pattern: str = "") -> list[ModelVersion]:
    """See `Session.models`."""
    return _session().models(pattern)


def summary(name: str, view: str = "default", limit: int = 0) -> Table:
    """See `Session.summary`."""
    return _session().summary(name, view, limit)


def jobs(state: str = "", *, limit: int = 100) -> list[JobRecord]:
    """See `Session.jobs`."""
    return _session().jobs(state, limit=limit)


def job(job_id: str) -> JobRecord:
    """See `Session.job`."""
    return _session().job(job_id)


def score(
    data: Data,
    *,
    method: str | Iterable[str],
    actual: str | Iterable[str],
    predicted: str | Iterable[str],
    by: str | Iterable[str] = (),
    params: Mapping[str, Any] | None = None,
) -> Table:
    """See `Session.score`."""
    return _session().score(data, method=method, actual=actual, predicted=predicted, by=by, params=params)
