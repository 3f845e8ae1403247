"""What the client hands out: plain data, no protobuf."""

from __future__ import annotations

from dataclasses import dataclass, field

from kepler.core.jobs import Notice


@dataclass(frozen=True, slots=True)
class Table:
    """A small table of text cells, in display order."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_dicts(self) -> list[dict[str, str]]:
        """One dictionary a row.

        >>> Table(("name", "value"), (("accuracy", "0.97"),)).to_dicts()
        [{'name': 'accuracy', 'value': '0.97'}]
        """
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One immutable version of a model. Times are seconds since the epoch."""

    name: str
    version: int
    aliases: tuple[str, ...] = ()
    algorithm: str = ""
    task: str = ""
    target: str = ""
    required_fields: tuple[str, ...] = ()
    output_columns: tuple[str, ...] = ()
    signature: str = ""
    owner: str = ""
    created_at: float = 0.0
    job_id: str = ""
    run_id: str = ""
    format: str = ""
    size_bytes: int = 0
    rows: int = 0
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    search: str = ""
    sid: str = ""
    data_sha256: str = ""
    params: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    manifest_json: str = ""

    @property
    def full_name(self) -> str:
        """Name with version, ``app.search/failure@3``."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class AlgorithmParam:
    """A hyperparameter as the service documents it; empty text where it says nothing."""

    name: str
    type: str
    default: str = ""
    low: str = ""
    high: str = ""
    choices: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True)
class AlgorithmDescription:
    """An algorithm that can be trained. ``available`` is false while ``extra`` is not installed."""

    name: str
    tasks: tuple[str, ...]
    description: str = ""
    aliases: tuple[str, ...] = ()
    params: tuple[AlgorithmParam, ...] = ()
    extra: str = ""
    available: bool = True


@dataclass(frozen=True, slots=True)
class Opened:
    """A prediction stream that stands: the version it resolved to and what it will answer."""

    model: str
    signature: str
    required_fields: tuple[str, ...]
    output_columns: tuple[str, ...]
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoredSlice:
    """New columns of one slice: as many CSV records as the slice has, each ended by LF."""

    rows: int
    values: bytes
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the service takes the caller for."""

    user: str
    capabilities: tuple[str, ...]
    service_version: str
    api_version: str
    tls: bool
    token_expires_at: float = 0.0
    server_time: str = ""


@dataclass(frozen=True, slots=True)
class TrainOrder:
    """What to train; fields as in ``kepler.v1.TrainOpen`` and ``TrainOptions``.

    ``params`` are texts, typed by the algorithm. ``seed`` None takes the service's default.
    """

    algorithm: str
    columns: tuple[str, ...]
    target: str = ""
    features: tuple[str, ...] = ("*",)
    by: tuple[str, ...] = ()
    into: str = ""
    as_name: str = ""
    params: dict[str, str] = field(default_factory=dict[str, str])
    output: str = "none"
    nulls: str = ""
    categoricals: str = ""
    seed: int | None = None
    test_size: float = 0.0
    kfold_cv: int = 0
    partial_fit: bool = False
    probabilities: bool = False
    tags: tuple[str, ...] = ()
    dry_run: bool = False
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class TrainTicket:
    """A training the service took: rows and job are on its disk. ``job_id`` is empty after a dry run."""

    job_id: str
    rows: int
    algorithm: str
    model: str
    used_fields: tuple[str, ...]
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class PredictChoice:
    """Options of a prediction: probability columns, name of the prediction column, missing fields."""

    probabilities: bool = False
    as_name: str = ""
    on_missing: str = ""
    overrides: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ScoreOrder:
    """Which columns to compare, and how."""

    columns: tuple[str, ...]
    methods: tuple[str, ...]
    actual: tuple[str, ...]
    predicted: tuple[str, ...]
    by: tuple[str, ...] = ()
    params: dict[str, str] = field(default_factory=dict[str, str])
