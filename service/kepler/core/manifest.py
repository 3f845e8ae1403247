"""The manifest of a model version: everything about it that is not weights, as strict JSON.

Training writes a draft; the model store completes it with name, version and file hashes and signs the bytes
that `Manifest.to_bytes` gives. `proto/kepler/manifest/v1.schema.json` is the same in JSON Schema.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from kepler.core.algorithms import SummaryTable, Task
from kepler.core.checked_json import Section, canonical, parse_object
from kepler.core.errors import InvalidInput
from kepler.core.golden import GoldenVectors
from kepler.core.groups import Groups
from kepler.core.names import ModelName
from kepler.core.outputs import OutputPlan
from kepler.core.preparation import Preparation
from kepler.core.profile import FieldProfile
from kepler.core.saved import SavedModel
from kepler.core.training import SearchContext

MANIFEST_VERSION = 1
SHA256 = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file beside the manifest."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an imported version came from: its name and number there, its manifest's digest, who signed it."""

    name: str
    version: int
    manifest_sha256: str
    key_id: str

    @property
    def full_name(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One model version. ``name``, ``version``, ``files`` and ``run_id`` are empty in a draft.

    With ``groups`` (``by``) it holds one model per group: ``preparation`` then names the fields that any of them
    reads, and each has its own, beside ``model``'s list of groups.

    ``profile`` is over the rows that were sent; ``rows`` were used of ``rows_sent``. ``parent`` is the full
    name of the version that training went on from. ``origin`` is None unless the version was imported.
    """

    task: Task
    algorithm: str
    params: Mapping[str, Any]
    target: str
    preparation: Preparation
    outputs: OutputPlan
    model: SavedModel
    golden: GoldenVectors
    profile: Mapping[str, FieldProfile] = field(default_factory=dict[str, FieldProfile])
    metrics: tuple[tuple[str, float], ...] = ()
    summary: Mapping[str, SummaryTable] = field(default_factory=dict[str, SummaryTable])
    rows: int = 0
    rows_sent: int = 0
    data_sha256: str = ""
    search: SearchContext = field(default_factory=SearchContext)
    owner: str = ""
    tags: tuple[str, ...] = ()
    seeds: Mapping[str, int] = field(default_factory=dict[str, int])
    code_version: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    parent: str = ""
    job_id: str = ""
    run_id: str = ""
    created_at: float = 0.0
    name: str = ""
    version: int = 0
    files: Mapping[str, FileEntry] = field(default_factory=dict[str, FileEntry])
    groups: Groups | None = None
    origin: Origin | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.outputs.labels

    @property
    def required_fields(self) -> tuple[str, ...]:
        """What a prediction reads: the fields of the preparation, then those that choose the group."""
        read = self.preparation.required_fields
        return (*read, *(name for name in self.groups.fields if name not in read)) if self.groups else read

    @property
    def number_fields(self) -> frozenset[str]:
        return self.preparation.number_fields

    @property
    def output_columns(self) -> tuple[str, ...]:
        """Columns of a prediction that asks for nothing special."""
        return self.outputs.columns()

    @property
    def signature(self) -> str:
        """Changes when the fields the model reads, their types or its columns change."""
        shape = {
            "fields": [[name, name in self.number_fields] for name in self.required_fields],
            "outputs": list(self.outputs.columns(probabilities=True)),
        }
        return hashlib.sha256(canonical(shape)).hexdigest()[:16]

    def schema_table(self) -> SummaryTable:
        """The fields the model reads, as a table."""
        rows: list[tuple[str, ...]] = []
        by = self.groups.fields if self.groups else ()
        for name in self.required_fields:
            profile = self.profile.get(name)
            kind = "number" if name in self.number_fields else "text"
            nulls = str(profile.nulls) if profile else ""
            rows.append(
                (
                    name,
                    "group" if name in by else "feature",
                    kind,
                    nulls,
                    str(profile.distinct) if profile and kind == "text" else "",
                )
            )
        if self.target:
            kind = "text" if self.classes else "number"
            rows.append((self.target, "target", kind, "", str(len(self.classes) or "")))
        return SummaryTable(("field", "role", "type", "nulls", "distinct"), tuple(rows))

    def completed(
        self,
        *,
        name: ModelName,
        version: int,
        files: Mapping[str, FileEntry],
        run_id: str = "",
        created_at: float | None = None,
    ) -> Manifest:
        """The manifest as it is registered."""
        when = self.created_at if created_at is None else created_at
        return replace(self, name=str(name), version=version, files=files, run_id=run_id, created_at=when)

    def to_bytes(self) -> bytes:
        """Canonical bytes: what is written, hashed and signed."""
        return canonical(self._document())

    @property
    def digest(self) -> str:
        """SHA-256 of `to_bytes`, hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_json(self) -> str:
        return self.to_bytes().decode()

    def pretty(self) -> str:
        """For people."""
        return json.dumps(self._document(), ensure_ascii=False, indent=2, sort_keys=True)

    def _document(self) -> dict[str, Any]:
        search = self.search
        return {
            "manifest_version": MANIFEST_VERSION,
            "name": self.name,
            "version": self.version,
            "created_at": self.created_at,
            "job_id": self.job_id,
            "run_id": self.run_id,
            "owner": self.owner,
            "tags": list(self.tags),
            "task": str(self.task),
            "algorithm": self.algorithm,
            "params": dict(self.params),
            "target": self.target,
            "preparation": self.preparation.to_json(),
            "outputs": self.outputs.to_json(),
            "metrics": [{"name": name, "value": value} for name, value in self.metrics],
            "summary": {
                view: {"columns": list(table.columns), "rows": [list(row) for row in table.rows]}
                for view, table in self.summary.items()
            },
            "profile": {name: profile.to_json() for name, profile in self.profile.items()},
            "data": {"rows": self.rows, "rows_sent": self.rows_sent, "sha256": self.data_sha256},
            "search": {
                "sid": search.sid,
                "search": search.search,
                "app": search.app,
                "user": search.user,
                "trace_id": search.trace_id,
                "earliest": search.earliest,
                "latest": search.latest,
            },
            "seeds": dict(self.seeds),
            "code_version": self.code_version,
            "environment": dict(self.environment),
            "parent": self.parent,
            "golden": self.golden.to_json(),
            "model": self.model.to_json(),
            **({"groups": self.groups.to_json()} if self.groups else {}),
            "files": {path: {"sha256": item.sha256, "size": item.size} for path, item in self.files.items()},
            **({} if self.origin is None else {"origin": asdict(self.origin)}),
        }

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read and check a manifest. Raises `InvalidInput` for anything that is not exactly one."""
        try:
            decoded = text if isinstance(text, str) else text.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput("Manifest is not UTF-8") from error
        root = parse_object(decoded, "Manifest")
        version = root.integer("manifest_version")
        if version != MANIFEST_VERSION:
            raise InvalidInput(
                f"Manifest has format {version} and this program reads {MANIFEST_VERSION}",
                fix="Use a newer Kepler, or train the model again.",
            )
        task = Task(root.choice("task", [str(item) for item in Task]))
        data, search = root.section("data"), root.section("search")
        manifest = cls(
            task=task,
            algorithm=root.text("algorithm", max_chars=500),
            params=root.scalars("params"),
            target=root.text("target"),
            preparation=Preparation.from_json(root.section("preparation")),
            outputs=OutputPlan.from_json(root.section("outputs"), task),
            model=SavedModel.from_json(root.section("model")),
            golden=GoldenVectors.from_json(root.section("golden")),
            profile=root.mapping("profile", lambda inner, key: FieldProfile.from_json(inner.section(key))),
            metrics=tuple(_metric(item) for item in root.sections("metrics", max_items=10_000)),
            summary=root.mapping("summary", lambda inner, key: _table(inner.section(key)), max_items=100),
            rows=data.integer("rows"),
            rows_sent=data.integer("rows_sent"),
            data_sha256=data.text("sha256", max_chars=64),
            search=SearchContext(
                sid=search.text("sid"),
                search=search.text("search", max_chars=1_000_000),
                app=search.text("app"),
                user=search.text("user"),
                trace_id=search.text("trace_id"),
                earliest=search.number("earliest"),
                latest=search.number("latest"),
            ),
            owner=root.text("owner"),
            tags=root.texts("tags"),
            seeds=root.mapping("seeds", lambda inner, key: inner.integer(key, low=-(2**63)), max_items=100),
            code_version=root.text("code_version", max_chars=200),
            environment=root.text_map("environment"),
            parent=root.text("parent", max_chars=500),
            job_id=root.text("job_id", max_chars=200),
            run_id=root.text("run_id", max_chars=200),
            created_at=root.number("created_at"),
            name=root.text("name", max_chars=250),
            version=root.integer("version"),
            files=root.mapping("files", lambda inner, key: _file(inner.section(key)), max_items=10_000),
            groups=Groups.from_json(root.section("groups")) if "groups" in root else None,
            origin=_origin(root.section("origin")) if "origin" in root else None,
        )
        for section in (data, search, root):
            section.done()
        manifest.check()
        return manifest

    def check(self) -> None:
        """Raise `InvalidInput` when the parts do not fit each other."""
        if self.name:
            ModelName.parse(self.name)
        width = len(self.preparation.feature_names)
        if any(len(row) != width for row in self.golden.inputs):
            raise InvalidInput(f"Manifest: golden rows do not have the {width} columns of the preparation")
        if self.task.needs_target != bool(self.target) or (self.task is Task.CLASSIFICATION) != bool(
            self.classes
        ):
            raise InvalidInput(f"Manifest: target and classes do not fit the task {self.task}")
        if self.files and not set(self.model.files) <= set(self.files):
            raise InvalidInput("Manifest: the model names files that have no hash")


def _metric(section: Section) -> tuple[str, float]:
    pair = (section.text("name", max_chars=250), section.number("value"))
    section.done()
    return pair


def _table(section: Section) -> SummaryTable:
    columns = section.texts("columns")
    rows: list[tuple[str, ...]] = []
    for row in section.items("rows"):
        cells = cast("list[Any]", row) if isinstance(row, list) else []
        if len(cells) != len(columns) or not all(isinstance(cell, str) for cell in cells):
            raise InvalidInput(f"{section.where}: a row does not fit its {len(columns)} columns")
        rows.append(tuple(cells))
    section.done()
    return SummaryTable(columns, tuple(rows))


def _origin(section: Section) -> Origin:
    origin = Origin(
        name=section.text("name", max_chars=250),
        version=section.integer("version", low=1),
        manifest_sha256=_sha256(section, "manifest_sha256"),
        key_id=section.text("key_id", max_chars=64),
    )
    ModelName.parse(origin.name)
    section.done()
    return origin


def _file(section: Section) -> FileEntry:
    entry = FileEntry(_sha256(section, "sha256"), section.integer("size"))
    section.done()
    return entry


def _sha256(section: Section, key: str) -> str:
    text = section.text(key, max_chars=64)
    if len(text) != 64 or not set(text) <= SHA256:
        raise InvalidInput(f"{section.where}: not a SHA-256")
    return text
