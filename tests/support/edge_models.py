"""Real versions for the edge: trained, written and signed by the service's own code."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from fakes.secret_store import InMemorySecretStore
from fakes.training import RecordingRun
from kepler.adapters.jobs.training_main import train_in_folder
from kepler.adapters.secrets.signer import Ed25519Signer
from kepler.adapters.storage.csv_slices import ArrowRowSpools
from kepler.adapters.storage.version_folder import measure, seal
from kepler.core.manifest import Manifest
from kepler.core.names import ModelName
from kepler.core.training import TrainSpec
from kepler_edge.keys import Trust
from kepler_edge.release_doc import ReleaseFile

N = 400
KINDS = {
    "gbdt": ("HistGradientBoostingClassifier", {"max_iter": 100}),
    "mlp": ("MLPClassifier", {"hidden_layer_sizes": [64, 32]}),
    "linear": ("LogisticRegression", {}),
}


def sample_rows(n: int = N, seed: int = 11) -> list[dict[str, Any]]:
    """Readings of a made machine, with what is to be predicted."""
    rng = np.random.default_rng(seed)
    a, b = np.round(rng.normal(size=n), 3), np.round(rng.normal(10, 3, size=n), 2)
    colour = np.array(["red", "green", "dark blue"])[rng.integers(0, 3, n)]
    label = np.where(a + (colour == "red") + 0.3 * rng.normal(size=n) > 0.5, "bad", "good")
    value = np.round(3 * a - b + 2 * (colour == "green") + 0.1 * rng.normal(size=n), 4)
    names = ("a", "b", "colour", "label", "value")
    return [
        dict(zip(names, (float(row[0]), float(row[1]), str(row[2]), str(row[3]), float(row[4])), strict=True))
        for row in zip(a, b, colour, label, value, strict=True)
    ]


@dataclass
class Signing:
    """A service's key and the trust list of a device that is enrolled there."""

    signer: Ed25519Signer
    trust: Trust

    @classmethod
    def fresh(cls) -> Signing:
        signer = Ed25519Signer(InMemorySecretStore())
        return cls(signer, Trust([signer._public.public_bytes_raw()]))


def train(
    algorithm: str,
    target: str,
    *,
    fields: Sequence[str] = ("a", "b", "colour"),
    rows: Sequence[Mapping[str, Any]] | None = None,
    **more: Any,
) -> Path:
    """A draft: manifest and files, in a folder of its own."""
    rows = sample_rows() if rows is None else rows
    folder = Path(mkdtemp(prefix="edge-model-"))
    columns = tuple(rows[0])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        ["" if row[name] is None else row[name] for name in columns] for row in rows
    )
    spool = ArrowRowSpools(0).open(folder, columns, columns)
    spool.write(text.getvalue().encode())
    digest = spool.finish()
    spec = TrainSpec(
        "j", algorithm, tuple(fields), columns, target,
        data_sha256=digest, rows=len(rows), model="app.search/m", **more,
    )  # fmt: skip
    (folder / "spec.json").write_text(spec.to_json())
    outcome = train_in_folder(folder, RecordingRun())
    assert outcome.failure is None, outcome.failure
    return folder / "model"


@cache
def draft(kind: str) -> Path:
    """The draft of one of `KINDS`, trained once."""
    algorithm, params = KINDS[kind]
    return train(algorithm, "label", params=params)


def registered(
    draft_folder: Path, to: Path, signing: Signing, *, name: str = "app.search/m", version: int = 1
) -> Manifest:
    """Copy a draft to ``to`` as a signed version."""
    shutil.copytree(draft_folder, to, dirs_exist_ok=True)
    manifest = Manifest.from_json((to / "manifest.json").read_bytes())
    manifest = manifest.completed(name=ModelName.parse(name), version=version, files=measure(to))
    seal(to, manifest, signing.signer)
    return manifest


def release_document(folder: Path, *, release: str = "r1", **more: Any) -> dict[str, Any]:
    """What the desired state says of a signed version in ``folder``."""
    import hashlib

    document = json.loads((folder / "manifest.json").read_bytes())

    def entry(path: str) -> dict[str, Any]:
        content = (folder / path).read_bytes()
        return {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}

    return {
        "id": release,
        "model": document["name"],
        "version": document["version"],
        "manifest": entry("manifest.json"),
        "signature": entry("manifest.sig"),
        "files": [entry(document["model"]["files"][0])],
        "url": "https://service.example/v1/edge/files",
        "limits": {"max_rss_mb": 300, "max_latency_ms": 500},
        "probation_s": 1,
        **more,
    }


class FolderFetch:
    """Serves the files of one folder for each release, in pieces."""

    def __init__(self, folders: Mapping[str, Path], *, piece: int = 64 * 1024) -> None:
        self.folders = dict(folders)
        self.piece = piece
        self.asked: list[tuple[str, int]] = []

    def __call__(self, file: ReleaseFile, offset: int) -> bytes:
        self.asked.append((file.path, offset))
        with (self.folders[file.release] / file.path).open("rb") as source:
            source.seek(offset)
            return source.read(self.piece)
