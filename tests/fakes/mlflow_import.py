"""Imports MLflow once for a test run, which takes seconds, without what its imports warn of."""

from __future__ import annotations

import warnings

from kepler.adapters.mlflow import schema


def import_mlflow() -> None:
    schema.quiet_mlflow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.store.model_registry.sqlalchemy_store
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
