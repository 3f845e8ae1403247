"""The columns of MLflow's tables that Kepler fills, and whether a database still has them.

The names are those of MLflow 3.17's schema. `check` compares them with the database before the first write,
so that an MLflow from another time is refused with a sentence instead of getting half a row.
"""

from __future__ import annotations

import sqlalchemy as sa

from kepler.core.errors import NotReady

WORKSPACE = "default"  # MLflow's single tenant

_COLUMNS = {
    "experiments": (
        "experiment_id name artifact_location lifecycle_stage creation_time last_update_time workspace"
    ),
    "runs": (
        "run_uuid name source_type source_name entry_point_name user_id status start_time end_time "
        "deleted_time source_version lifecycle_stage artifact_uri experiment_id"
    ),
    "tags": "key value run_uuid",
    "params": "key value run_uuid",
    "metrics": "key value timestamp run_uuid step is_nan",
    "latest_metrics": "key value timestamp run_uuid step is_nan",
    "registered_models": "name creation_time last_updated_time description workspace",
    "registered_model_tags": "key value name workspace",
    "registered_model_aliases": "alias version name workspace",
    "model_versions": (
        "name version creation_time last_updated_time description user_id current_stage source "
        "storage_location run_id run_link status status_message workspace"
    ),
    "model_version_tags": "key value name version workspace",
}


def _table(name: str) -> sa.TableClause:
    return sa.table(name, *(sa.column(column) for column in _COLUMNS[name].split()))


EXPERIMENTS = _table("experiments")
RUNS = _table("runs")
RUN_TAGS = _table("tags")
PARAMS = _table("params")
METRICS = _table("metrics")
LATEST_METRICS = _table("latest_metrics")
MODELS = _table("registered_models")
MODEL_TAGS = _table("registered_model_tags")
ALIASES = _table("registered_model_aliases")
VERSIONS = _table("model_versions")
VERSION_TAGS = _table("model_version_tags")


def check(engine: sa.Engine) -> None:
    """Raise `NotReady` unless every column we fill is there and no other must be filled."""
    inspector = sa.inspect(engine)
    for name, columns in _COLUMNS.items():
        ours = set(columns.split())
        found = (
            {column["name"]: column for column in inspector.get_columns(name)}
            if inspector.has_table(name)
            else {}
        )
        for column in sorted(ours - found.keys()):
            raise _foreign(f"Table {name} has no column {column}")
        for column in sorted(found.keys() - ours):
            if not found[column]["nullable"] and found[column]["default"] is None:
                raise _foreign(f"Table {name} demands a column {column}")


def _foreign(cause: str) -> NotReady:
    return NotReady(
        "The model store's database is of an MLflow version that this Kepler does not know",
        cause=cause,
        fix="Install the Kepler release that goes with it, or restore the database of before.",
    )
