"""A loaded model version, as predictions use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kepler.core.jobs import Notice
from kepler.core.outputs import NumberOutput as NumberOutput
from kepler.core.outputs import Output as Output
from kepler.core.outputs import TextOutput as TextOutput
from kepler.core.records import RecordBatch


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What the caller may choose at predict time."""

    probabilities: bool = False
    as_name: str = ""
    on_missing: str = "warn"
    overrides: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Scoring:
    """New columns for one batch, in order, with what should be said about them."""

    outputs: tuple[Output, ...]
    notices: tuple[Notice, ...] = ()


class LoadedModel(Protocol):
    """A model version in memory. Thread-safe; the same input gives the same output."""

    full_name: str
    signature: str
    required_fields: tuple[str, ...]
    number_fields: frozenset[str]  # the required fields that are read as numbers
    size_bytes: int

    def check_options(self, options: PredictOptions) -> None:
        """Raise `InvalidInput` for an option this model cannot honour."""
        ...

    def output_columns(self, options: PredictOptions) -> tuple[str, ...]: ...

    def predict(self, batch: RecordBatch, options: PredictOptions) -> Scoring:
        """Score ``batch``, which holds the required fields that the caller sent (others may be absent)."""
        ...


class ModelLoader(Protocol):
    """Reads a version folder: hashes and signature first, then the model."""

    def load(self, folder: Path, full_name: str) -> LoadedModel: ...
