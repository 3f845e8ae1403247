"""From a trained draft to a signed version: what its run says, and its completed manifest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from kepler.adapters.mlflow.record import shared_tags, user_tags
from kepler.adapters.storage import version_folder
from kepler.core.names import ModelName
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.core.versions import VersionRecord
from kepler.ports.security import Signer


def run_params(spec: TrainSpec) -> dict[str, str]:
    """What the run shows as parameters: how to train the same again."""
    shown = {
        "algorithm": spec.algorithm,
        "target": spec.target,
        "features": " ".join(spec.features),
        "by": " ".join(spec.by),
        "nulls": spec.nulls,
        "categoricals": spec.categoricals,
        "seed": str(spec.seed),
    }
    shown.update({f"param.{key}": _plain(value) for key, value in spec.params.items()})
    return {key: value for key, value in shown.items() if value}


def run_tags(spec: TrainSpec) -> dict[str, str]:
    """What the run shows as tags: who, from which search, on which data."""
    shown = {
        "mlflow.user": spec.owner,
        "kepler.sid": spec.search.sid,
        "kepler.search": spec.search.search,
        "kepler.trace_id": spec.search.trace_id,
        "kepler.data_sha256": spec.data_sha256,
    }
    shown |= shared_tags(user_tags(spec.tags))
    return {key: value for key, value in shown.items() if value}


def complete(
    folder: Path,
    name: ModelName,
    version: int,
    spec: TrainSpec,
    outcome: TrainOutcome,
    run_id: str,
    created_at: float,
    signer: Signer,
) -> VersionRecord:
    """Fill in what only the registry knows, seal the folder, and give the version's record.

    Repeating it with the same arguments writes the same bytes.
    """
    files = version_folder.measure(folder)
    draft = replace(version_folder.draft_manifest(folder), job_id=spec.job_id)
    manifest = draft.completed(name=name, version=version, files=files, run_id=run_id, created_at=created_at)
    manifest.check()
    digest = version_folder.seal(folder, manifest, signer)
    return VersionRecord(
        name=name,
        version=version,
        folder=str(folder),
        manifest_sha256=digest,
        algorithm=manifest.algorithm,
        task=str(manifest.task),
        target=manifest.target,
        owner=spec.owner,
        created_at=created_at,
        job_id=spec.job_id,
        run_id=run_id,
        format=manifest.model.format,
        size_bytes=sum(entry.size for entry in files.values()),
        rows=outcome.rows_used,
        metrics=outcome.metrics,
        tags=user_tags(spec.tags),
        params={key: _plain(value) for key, value in spec.params.items()},
        fields=manifest.required_fields,
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
