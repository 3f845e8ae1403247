"""What a model version is and what it learned, as tables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kepler.core.algorithms import SummaryTable
from kepler.core.errors import InvalidInput
from kepler.core.group_table import GroupTable
from kepler.core.manifest import Manifest
from kepler.core.versions import VersionRecord

VIEWS = ("default", "params", "importance", "metrics", "schema", "groups", "optimization")
DEFAULT_LIMIT = 1000


class ReadManifest(Protocol):
    """Reads and verifies the manifest of a version folder."""

    def __call__(self, folder: Path) -> Manifest: ...


@dataclass(frozen=True, slots=True)
class VersionDetails:
    """What only the manifest knows."""

    required_fields: tuple[str, ...]
    output_columns: tuple[str, ...]
    signature: str
    search: str
    sid: str
    data_sha256: str
    params: dict[str, str]
    manifest_json: str


class ReadGroups(Protocol):
    """Reads and verifies the list of groups of a version folder whose manifest was verified."""

    def __call__(self, folder: Path, manifest: Manifest) -> GroupTable: ...


class SummarizeModel:
    def __init__(self, read_manifest: ReadManifest, read_groups: ReadGroups) -> None:
        self._read = read_manifest
        self._read_groups = read_groups

    def details(self, version: VersionRecord) -> VersionDetails:
        manifest = self._read(Path(version.folder))
        return VersionDetails(
            required_fields=manifest.required_fields,
            output_columns=manifest.output_columns,
            signature=manifest.signature,
            search=manifest.search.search,
            sid=manifest.search.sid,
            data_sha256=manifest.data_sha256,
            params={name: json.dumps(value) for name, value in manifest.params.items()},
            manifest_json=manifest.to_json(),
        )

    def table(self, version: VersionRecord, view: str, limit: int) -> SummaryTable:
        """One of `VIEWS` of a version, at most ``limit`` rows (0: 1,000)."""
        if view not in VIEWS:
            raise InvalidInput(f"{view[:40]!r} is not a view of a model", fix=f"Use {', '.join(VIEWS)}.")
        folder = Path(version.folder)
        manifest = self._read(folder)
        if view == "groups":
            if manifest.groups is None:
                raise InvalidInput(
                    f"{version.full_name} was not trained by groups",
                    fix="Use another view, or train with 'by'.",
                )
            return self._read_groups(folder, manifest).summary(limit or DEFAULT_LIMIT)
        table = self._view(manifest, view)
        return SummaryTable(table.columns, table.rows[: limit or DEFAULT_LIMIT])

    def _view(self, manifest: Manifest, view: str) -> SummaryTable:
        if view == "metrics":
            return SummaryTable(
                ("metric", "value"), tuple((name, f"{value:.6g}") for name, value in manifest.metrics)
            )
        if view == "params":
            pairs = tuple((name, json.dumps(value)) for name, value in manifest.params.items())
            return SummaryTable(("parameter", "value"), pairs)
        if view == "schema":
            return manifest.schema_table()
        tables = manifest.summary
        if view in tables:
            return tables[view]
        return tables.get(
            "default", SummaryTable(("algorithm", "rows"), ((manifest.algorithm, str(manifest.rows)),))
        )
