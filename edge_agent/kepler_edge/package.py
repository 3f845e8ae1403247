"""A model version as it arrives: signature first, then the manifest, then hashes, then the graph.

Nothing of a file is parsed before the signature over the manifest holds and the manifest gives the file's hash. The
format is the service's (``proto/kepler/manifest/v1.schema.json``); what no agent needs is only checked for its type.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from kepler_edge.checked import Section, parse_object
from kepler_edge.errors import InvalidInput, Refused
from kepler_edge.keys import Trust
from kepler_edge.onnx_graph import check_graph
from kepler_edge.outputs import TASKS, OutputPlan
from kepler_edge.preparation import Preparation

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
MAX_MANIFEST_BYTES = 16 * 2**20
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OTHERS: dict[str, type | tuple[type, ...]] = {
    "created_at": (int, float), "job_id": str, "run_id": str, "owner": str, "tags": list, "params": dict,
    "metrics": list, "summary": dict, "data": dict, "search": dict, "seeds": dict, "code_version": str,
    "environment": dict, "parent": str,
}  # fmt: skip

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file beside the manifest."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Golden:
    """Prepared rows (n_rows, n_columns) with the ``outputs`` recorded for them; NaN where a number is missing."""

    inputs: Rows
    outputs: Mapping[str, Rows]
    tolerance: float


@dataclass(frozen=True, slots=True)
class Profile:
    """What a field looked like in training: ``quantiles`` of numbers, the most frequent texts in ``top``."""

    kind: str
    count: int
    quantiles: tuple[float, ...] = ()
    top: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the agent reads of a model version."""

    name: str
    version: int
    task: str
    target: str
    preparation: Preparation
    outputs: OutputPlan
    golden: Golden
    profile: Mapping[str, Profile]
    model_file: str
    dtype: str
    opset: int
    files: Mapping[str, FileEntry]
    sha256: str

    @property
    def sha8(self) -> str:
        """First digits of the model file's SHA-256."""
        return self.files[self.model_file].sha256[:8]


def read_manifest(payload: bytes, signature: bytes, trust: Trust) -> Manifest:
    """The manifest, parsed once its signature holds. Raises `Refused`."""
    if not trust.verify(payload, signature):
        raise Refused(
            "The manifest's signature does not hold",
            cause="It was changed, or signed by a key that this device does not trust",
            fix="Deploy the version again from the service that this device is enrolled at.",
        )
    try:
        return _parse(payload)
    except InvalidInput as error:
        raise Refused(error.message, cause=error.cause, fix=error.fix) from error


def open_package(folder: Path, trust: Trust) -> tuple[Manifest, bytes]:
    """The checked manifest and model of ``folder``. Raises `Refused`; `FileNotFoundError` where a file is gone."""
    payload = _bounded(folder / MANIFEST, MAX_MANIFEST_BYTES)
    manifest = read_manifest(payload, _bounded(folder / SIGNATURE, 64), trust)
    entry = manifest.files[manifest.model_file]
    model = _bounded(folder / manifest.model_file, entry.size)
    if len(model) != entry.size or hashlib.sha256(model).hexdigest() != entry.sha256:
        raise Refused(
            f"The file {manifest.model_file!r} is not the one that was signed",
            cause="It was damaged or changed",
            fix="Deploy the version again.",
        )
    check_graph(model)
    return manifest, model


def _bounded(path: Path, most: int) -> bytes:
    if path.is_symlink():
        raise Refused(f"{path.name!r} is a link")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise Refused(f"{path.name!r} has more than {most:,} bytes")
    return data


def _parse(payload: bytes) -> Manifest:
    root = parse_object(payload, "The manifest", MAX_MANIFEST_BYTES)
    version = root.integer("manifest_version")
    if version != 1:
        raise InvalidInput(
            f"The manifest has format {version} and this agent reads 1", fix="Update the agent."
        )
    if "groups" in root:
        raise InvalidInput(
            "The version holds one model per group, which an agent does not run",
            fix="Train one model for all groups, or one version for each.",
        )
    for key, kind in _OTHERS.items():
        if not isinstance(root.take(key), kind):
            raise InvalidInput(f"The manifest: {key!r} is of another type")
    root.take("origin", None)
    root.text("algorithm", max_chars=500)
    for key in ("profile", "files"):
        if key not in root:
            raise InvalidInput(f"The manifest lacks {key!r}")
    task = root.choice("task", TASKS)
    preparation = Preparation.of(root.section("preparation"))
    outputs = OutputPlan.of(root.section("outputs"), task)
    golden = _golden(root.section("golden"), preparation.width)
    model = root.section("model")
    if (form := model.text("format", max_chars=40)) != "onnx":
        raise InvalidInput(
            f"The model is stored as {form!r} and an agent runs ONNX only",
            cause=model.text("reason"),
            fix="Choose an algorithm that can be written as ONNX.",
        )
    named = model.texts("files", max_items=10)
    files = root.mapping("files", lambda inner, key: _file(inner.section(key)))
    if not named or named[0] not in files or not FILE_NAME.fullmatch(named[0]):
        raise InvalidInput("The manifest: the model's file has no hash")
    manifest = Manifest(
        name=root.text("name", max_chars=250),
        version=root.integer("version", low=1),
        task=task,
        target=root.text("target"),
        preparation=preparation,
        outputs=outputs,
        golden=golden,
        profile=root.mapping("profile", lambda inner, key: _profile(inner.section(key))),
        model_file=named[0],
        dtype=model.choice("dtype", ("float32", "float64")),
        opset=model.integer("opset", high=10_000),
        files=files,
        sha256=hashlib.sha256(payload).hexdigest(),
    )
    root.done()
    return manifest


def _golden(section: Section, width: int) -> Golden:
    inputs = section.rows("inputs", max_items=1_000)
    outputs = section.mapping("outputs", lambda inner, key: inner.rows(key, max_items=1_000), max_items=10)
    tolerance = section.number("tolerance", low=0, high=1)
    section.done()
    uneven = any(len(rows) != len(inputs) or len({len(row) for row in rows}) > 1 for rows in outputs.values())
    if uneven or any(len(row) != width for row in inputs):
        raise InvalidInput(f"{section.where}: its rows do not fit the {width} columns of the preparation")
    return Golden(inputs, outputs, tolerance)


def _file(section: Section) -> FileEntry:
    entry = FileEntry(section.text("sha256", max_chars=64), section.integer("size"))
    section.done()
    if not _SHA256.fullmatch(entry.sha256):
        raise InvalidInput(f"{section.where}: not a SHA-256")
    return entry


def _profile(section: Section) -> Profile:
    kind, count = section.choice("kind", ("number", "text")), section.integer("count")
    section.integer("nulls")
    if kind == "number":
        for key in ("mean", "std", "min", "max"):
            section.number(key)
        profile = Profile(kind, count, quantiles=section.numbers("quantiles", max_items=1_000))
    else:
        section.integer("distinct")
        top: list[tuple[str, int]] = []
        for item in section.sections("top", max_items=10_000):
            top.append((item.text("value"), item.integer("count")))
            item.done()
        profile = Profile(kind, count, top=tuple(top))
    section.done()
    return profile


def worst_difference(golden: Golden, raw: Mapping[str, Any]) -> float:
    """Largest difference of the arrays ``raw`` from the recorded ones, relative to max(1, |value|).

    Infinite where shapes or gaps differ, or a whole number (label, cluster) is another.
    """
    if set(raw) != set(golden.outputs):
        return math.inf
    worst = 0.0
    for key, values in raw.items():
        whole = values.dtype.kind in "iu"
        got = cast("list[Any]", values.tolist())
        for expected, row in zip(golden.outputs[key], got, strict=False):
            cells = cast("list[float]", row if isinstance(row, list) else [row])
            if len(cells) != len(expected) or len(got) != len(golden.inputs):
                return math.inf
            for wanted, cell in zip(expected, cells, strict=True):
                cell = cell if math.isfinite(cell) else math.nan
                if math.isnan(wanted) != math.isnan(cell):
                    return math.inf
                gap = 0.0 if math.isnan(wanted) else abs(cell - wanted) / max(1.0, abs(wanted))
                if whole and gap:
                    return math.inf
                worst = max(worst, gap)
    return worst
