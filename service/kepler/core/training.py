"""What a training is asked to do and what it gave, as plain data.

`TrainSpec` is written to ``spec.json`` in the job's folder and read by the worker process; `TrainOutcome`
comes back as ``result.json``. Both are JSON and nothing else, so a worker can live in another environment.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from kepler.core.errors import InvalidInput
from kepler.core.jobs import Failure, Notice

OUTPUTS = ("predictions", "summary", "none")
NULLS = ("drop", "impute", "native")
CATEGORICALS = ("onehot", "target", "native")
DEFAULT_SEED = 42


@dataclass(frozen=True, slots=True)
class SearchContext:
    """Where the rows came from, for lineage."""

    sid: str = ""
    search: str = ""
    app: str = ""
    user: str = ""
    trace_id: str = ""
    earliest: float = 0.0
    latest: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """One training, completely.

    ``features`` are patterns until the header is known and names afterwards. ``model`` is the full name
    without version, empty when nothing is kept. ``params`` are typed values after
    `registry.Registry.check_params`, JSON scalars or lists. ``parent`` is the folder of the version that
    ``partial_fit`` goes on from and ``parent_sha256`` its manifest's digest, taken once its signature held: the
    worker has no key to check it with.
    """

    job_id: str
    algorithm: str
    features: tuple[str, ...]
    columns: tuple[str, ...]
    target: str = ""
    by: tuple[str, ...] = ()
    model: str = ""
    as_name: str = ""
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    output: str = "predictions"
    nulls: str = "drop"
    categoricals: str = "onehot"
    seed: int = DEFAULT_SEED
    test_size: float = 0.0
    kfold_cv: int = 0
    partial_fit: bool = False
    probabilities: bool = False
    tags: tuple[str, ...] = ()
    parent: str = ""
    parent_sha256: str = ""
    owner: str = ""
    search: SearchContext = field(default_factory=SearchContext)
    threads: int = 1
    rows: int = 0
    data_sha256: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> TrainSpec:
        raw: dict[str, Any] = json.loads(text)
        unknown = set(raw) - {item.name for item in fields(cls)}
        if unknown:
            raise InvalidInput(f"Training specification has unknown keys {sorted(unknown)}")
        raw["search"] = SearchContext(**raw.get("search", {}))
        for key in ("features", "columns", "by", "tags"):
            raw[key] = tuple(raw.get(key, ()))
        return cls(**raw)


@dataclass(frozen=True, slots=True)
class TrainOutcome:
    """What the worker leaves behind.

    ``model_dir`` (relative to the job's folder) is a version folder without name, version and signature;
    empty when nothing is kept. ``predictions`` is an Arrow file of text columns aligned with the sent rows.
    """

    rows_used: int = 0
    rows_dropped: int = 0
    metrics: tuple[tuple[str, float], ...] = ()
    notices: tuple[Notice, ...] = ()
    model_dir: str = ""
    predictions: str = ""
    failure: Failure | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> TrainOutcome:
        raw: dict[str, Any] = json.loads(text)
        failure = raw.get("failure")
        return cls(
            rows_used=int(raw.get("rows_used", 0)),
            rows_dropped=int(raw.get("rows_dropped", 0)),
            metrics=tuple((str(name), float(value)) for name, value in raw.get("metrics", ())),
            notices=tuple(Notice(**item) for item in raw.get("notices", ())),
            model_dir=str(raw.get("model_dir", "")),
            predictions=str(raw.get("predictions", "")),
            failure=Failure(**failure) if failure else None,
        )


@dataclass(frozen=True, slots=True)
class TrainOrder:
    """A training as a caller asked for it, before names, patterns and parameters are resolved."""

    algorithm: str
    columns: tuple[str, ...]
    features: tuple[str, ...]
    target: str = ""
    by: tuple[str, ...] = ()
    into: str = ""
    as_name: str = ""
    params: dict[str, str] = field(default_factory=dict[str, str])
    output: str = "predictions"
    nulls: str = "drop"
    categoricals: str = "onehot"
    seed: int = DEFAULT_SEED
    test_size: float = 0.0
    kfold_cv: int = 0
    partial_fit: bool = False
    probabilities: bool = False
    tags: tuple[str, ...] = ()
    dry_run: bool = False
    request_id: str = ""
