"""Score the rows of one stream with one model version."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Protocol

from kepler.core.errors import InvalidInput
from kepler.core.jobs import CountedNotice, Notice
from kepler.core.names import parse_ref
from kepler.core.records import RecordBatch
from kepler.core.versions import VersionRecord
from kepler.ports.models import ModelStore
from kepler.ports.serving import LoadedModel, PredictOptions, Scoring
from kepler.usecases.identity import Caller

ON_MISSING = ("warn", "error", "null")


class WarmModels(Protocol):
    """Loaded versions, kept warm within a bound of memory."""

    def get(self, version: VersionRecord) -> LoadedModel: ...

    def recall(self, version: VersionRecord) -> LoadedModel | None: ...


@dataclass(slots=True)
class Prediction:
    """One stream: the version is resolved once and stays, whatever happens to its aliases meanwhile."""

    model: LoadedModel
    options: PredictOptions
    columns: tuple[str, ...]
    signature_changed: bool
    _said: set[str] = field(default_factory=set[str])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def output_columns(self) -> tuple[str, ...]:
        return self.model.output_columns(self.options)

    def score(self, batch: RecordBatch) -> Scoring:
        """New columns for ``batch``; each notice is given once per stream."""
        scoring = self.model.predict(batch, self.options)
        if not scoring.notices:
            return scoring
        with self._lock:  # slices of one stream may be scored side by side
            fresh = tuple(notice for notice in scoring.notices if _key(notice) not in self._said)
            self._said.update(map(_key, fresh))
        return Scoring(scoring.outputs, fresh)


class PredictRows:
    """Opens predictions (capability: predict)."""

    def __init__(self, models: ModelStore, warm: WarmModels) -> None:
        self._models = models
        self._warm = warm

    def open(
        self,
        caller: Caller,
        model: str,
        columns: tuple[str, ...],
        options: PredictOptions,
        signature: str = "",
    ) -> Prediction:
        """Resolve ``model`` as ``caller`` means it and make it warm.

        Raises `NotFound` for an unknown name or version, `InvalidInput` for an option the model cannot honour
        or, under ``on_missing=error``, for a field that ``columns`` lacks. ``signature`` is the one the
        caller chose its columns by; a stale one is told by `Prediction.signature_changed`.
        """
        _check_on_missing(options)
        version = self._models.resolve(parse_ref(model, user=caller.user, app=caller.app))
        caller.check_sees(version.name)
        return _prediction(self._warm.get(version), columns, options, signature)

    def recall(
        self,
        caller: Caller,
        model: str,
        columns: tuple[str, ...],
        options: PredictOptions,
        signature: str = "",
    ) -> Prediction | None:
        """What `open` would give, where that takes neither a query nor a load; else None. Raises as `open`."""
        _check_on_missing(options)
        version = self._models.recall(parse_ref(model, user=caller.user, app=caller.app))
        if version is None:
            return None
        caller.check_sees(version.name)
        loaded = self._warm.recall(version)
        return None if loaded is None else _prediction(loaded, columns, options, signature)


def _check_on_missing(options: PredictOptions) -> None:
    if options.on_missing not in ON_MISSING:
        raise InvalidInput(
            f"Invalid value for on_missing: {options.on_missing[:40]!r}", fix="Use warn, error or null."
        )


def _prediction(
    loaded: LoadedModel, columns: tuple[str, ...], options: PredictOptions, signature: str
) -> Prediction:
    loaded.check_options(options)
    changed = bool(signature) and signature != loaded.signature
    if options.on_missing == "error" and not changed:
        present = frozenset(columns)
        absent = [name for name in loaded.required_fields if name not in present]
        if absent:
            raise InvalidInput(
                f"The rows lack {_some(absent)}, which the model {loaded.full_name} reads",
                fix="Add the field, or use on_missing=warn.",
            )
    return Prediction(loaded, options, columns, changed)


def _key(notice: Notice) -> str:
    return notice.about if isinstance(notice, CountedNotice) else notice.text


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"the field{'s' if len(names) > 1 else ''} {shown}{more}"
