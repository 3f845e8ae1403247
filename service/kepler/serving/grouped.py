"""A version with one model per group (``by``): each row is scored by the model of its group.

Groups in shared arrays are scored in one step. A group with a model of its own is read when its first row
comes, and the least recently used leave once they take more than `MEMBER_BYTES`; a batch touches no group
that none of its rows belongs to.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kepler.core.algorithms import RawScores
from kepler.core.errors import InvalidInput
from kepler.core.groups import NO_GROUP, UNSEEN_GROUP, GroupIndex, group_name, part_of
from kepler.core.jobs import CountedNotice, Notice
from kepler.core.manifest import Manifest
from kepler.core.packed import SCALER
from kepler.core.preparation import absent_notices, unseen_notice
from kepler.core.records import Bools, NumberColumn, RecordBatch, TextColumn
from kepler.ports.formats import GroupMember, GroupPack, Scorer
from kepler.ports.serving import PredictOptions, Scoring
from kepler.serving.options import check_options

Int64 = npt.NDArray[np.int64]

MEMBER_BYTES = 128 * 2**20
_MEMBER_BASE = 160 * 1024  # a loaded member beside its weights: an ONNX session takes 130 to 150 kB
_BASE_BYTES = 64 * 1024
_MISSING_KEY = "rows without a group"
_UNSEEN_KEY = "rows of unseen groups"


@dataclass(slots=True)
class _Answers:
    """Scores by row of the batch."""

    n_rows: int
    n_components: int
    kept: Bools = field(init=False)
    raw: RawScores = field(default_factory=dict[str, npt.NDArray[Any]])

    def __post_init__(self) -> None:
        self.kept = np.zeros(self.n_rows, dtype=np.bool_)

    def put(self, rows: Int64, raw: RawScores, columns: Int64 | None) -> None:
        """``columns`` are the places of ``raw``'s components among those of the version, -1 for none."""
        self.kept[rows] = True
        for key, values in raw.items():
            if key == "components" and columns is not None:
                wide = np.full((len(values), self.n_components), np.nan)
                wide[:, columns[columns >= 0]] = values[:, columns >= 0]
                values = wide
            if key not in self.raw:
                shape = (self.n_rows, *values.shape[1:])
                whole = np.issubdtype(values.dtype, np.integer)
                self.raw[key] = np.zeros(shape, np.int64) if whole else np.full(shape, np.nan)
            self.raw[key][rows] = values


class GroupedServedModel:
    """Implements `kepler.ports.serving.LoadedModel`; thread-safe."""

    def __init__(self, manifest: Manifest, pack: GroupPack, full_name: str) -> None:
        assert manifest.groups is not None
        self.full_name = full_name
        self.manifest = manifest
        self.signature = manifest.signature
        self.required_fields = manifest.required_fields
        self.number_fields = manifest.number_fields
        self._fields = manifest.groups.fields
        self._pack = pack
        self._index = GroupIndex(pack.table.keys)
        self._slots = np.asarray(pack.table.slots, dtype=np.int64)
        self._own = np.asarray([place.size > 0 for place in pack.table.places], dtype=np.bool_)
        self._columns = self._packed_columns()
        self._members: OrderedDict[int, tuple[GroupMember, Scorer]] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()
        most = min(MEMBER_BYTES, 2 * sum(place.size for place in pack.table.places))
        self.size_bytes = pack.size_bytes + self._index.size_bytes + most + _BASE_BYTES

    @property
    def loaded_groups(self) -> int:
        """Groups whose own model is in memory now."""
        return len(self._members)

    def check_options(self, options: PredictOptions) -> None:
        check_options(self.manifest, self.full_name, options)

    def output_columns(self, options: PredictOptions) -> tuple[str, ...]:
        return self.manifest.outputs.columns(as_name=options.as_name, probabilities=options.probabilities)

    def predict(self, batch: RecordBatch, options: PredictOptions) -> Scoring:
        self.check_options(options)
        notices = absent_notices(self.manifest.preparation, batch, options.on_missing)
        group = self._groups(batch, options.on_missing, notices)
        answers = _Answers(batch.n_rows, len(self.manifest.outputs.components))
        known, at = group >= 0, np.maximum(group, 0)
        slots = np.where(known, self._slots[at], -1)
        has_own = known & self._own[at]
        self._packed(batch, options, np.flatnonzero(slots >= 0), slots, answers, notices)
        self._one_by_one(batch, options, np.flatnonzero(has_own), group, answers, notices)
        raw = {key: values[answers.kept] for key, values in answers.raw.items()}
        if not answers.kept[(slots >= 0) | has_own].all():
            notices.append(
                Notice("info", "rows without a value in a field the model reads get no prediction")
            )
        outputs = self.manifest.outputs.build(
            self._complete(raw), answers.kept, as_name=options.as_name,
            probabilities=options.probabilities, blank_missing=True,
        )  # fmt: skip
        return Scoring(outputs, tuple(dict.fromkeys(notices)))

    def _groups(self, batch: RecordBatch, on_missing: str, notices: list[Notice]) -> Int64:
        """The group of each row; says how many rows have none, and why."""
        absent = [name for name in self._fields if name not in batch]
        if absent and on_missing == "error":
            raise InvalidInput(
                f"The rows lack {absent[0]!r}, which chooses the model's group",
                fix="Add it, or use on_missing=warn.",
            )
        columns: list[TextColumn] = []
        for name in self._fields:
            column = batch.columns.get(name)
            if column is None:
                column = TextColumn(np.full(batch.n_rows, -1, dtype=np.int32), ())
            if isinstance(column, NumberColumn):
                raise InvalidInput(f"Field {name!r} chooses a group by its text and came as numbers")
            columns.append(column)
        group = self._index.find(columns)
        names = " or ".join(f"'{name}'" for name in self._fields)
        without = int(np.count_nonzero(group == NO_GROUP))
        if without and on_missing != "null":
            text = f"{without:,} of {batch.n_rows:,} rows have no value in {names} (by) and get no prediction"
            notices.append(CountedNotice("warn", text, _MISSING_KEY))
        unseen = np.flatnonzero(group == UNSEEN_GROUP)
        if len(unseen):
            first = int(unseen[0])
            key = [column.categories[column.codes[first]] for column in columns]
            text = (
                f"{len(unseen):,} of {batch.n_rows:,} rows are of groups that training has not seen, "
                f"such as {group_name(self._fields, key)}: they get no prediction"
            )
            notices.append(CountedNotice("warn", text, _UNSEEN_KEY))
        at = np.maximum(group, 0)
        failed = np.flatnonzero((group >= 0) & (self._slots[at] < 0) & ~self._own[at])
        if len(failed):
            name = group_name(self._fields, self._pack.table.key(int(group[failed[0]])))
            text = (
                f"{len(failed):,} of {batch.n_rows:,} rows are of groups that could not be trained, "
                f"such as {name}: they get no prediction"
            )
            notices.append(CountedNotice("warn", text, "rows of failed groups"))
        return group

    def _packed(
        self, batch: RecordBatch, options: PredictOptions, rows: Int64, slots: Int64, answers: _Answers,
        notices: list[Notice],
    ) -> None:  # fmt: skip
        packed = self._pack.packed
        if packed is None or not len(rows):
            return
        part = batch if len(rows) == batch.n_rows else _part(batch, rows, packed.preparation.required_fields)
        lenient = frozenset[str]()
        if options.on_missing == "warn":
            lenient = frozenset(name for name in packed.preparation.required_fields if name not in batch)
        made = packed.score(part, slots[rows], lenient=lenient)
        answers.put(rows[made.kept], made.raw, self._columns)
        notices += [
            unseen_notice(feature) for feature in packed.preparation.features if feature.field in made.unseen
        ]

    def _one_by_one(
        self, batch: RecordBatch, options: PredictOptions, rows: Int64, group: Int64, answers: _Answers,
        notices: list[Notice],
    ) -> None:  # fmt: skip
        if not len(rows):
            return
        rows = rows[np.argsort(group[rows], kind="stable")]
        for mine in np.split(rows, np.flatnonzero(np.diff(group[rows])) + 1):
            member, scorer = self._member(int(group[mine[0]]))
            part = _part(batch, mine, member.preparation.required_fields)
            prepared = member.preparation.transform(
                part,
                dtype=np.dtype(member.model.dtype),
                on_missing="null" if options.on_missing == "null" else "warn",
            )
            notices += [notice for notice in prepared.notices if not notice.text.startswith("The rows lack")]
            if not len(prepared.x):
                continue
            kept = mine if prepared.kept is None else mine[prepared.kept]
            columns = np.asarray(member.columns, dtype=np.int64)
            answers.put(kept, scorer.score(prepared.x), columns)

    def _member(self, group: int) -> tuple[GroupMember, Scorer]:
        with self._lock:
            found = self._members.get(group)
            if found is not None:
                self._members.move_to_end(group)
                return found
        loaded = self._pack.member(group)  # outside the lock: two streams may read one group at once
        size = loaded[1].size_bytes + _MEMBER_BASE
        with self._lock:
            if group not in self._members:
                self._held += size
            self._members[group] = loaded
            while self._held > MEMBER_BYTES and len(self._members) > 1:
                _, (_, oldest) = self._members.popitem(last=False)
                self._held -= oldest.size_bytes + _MEMBER_BASE
        return loaded

    def _packed_columns(self) -> Int64 | None:
        packed, plan = self._pack.packed, self.manifest.outputs
        if packed is None or packed.kind != SCALER:
            return None
        place = {name: at for at, name in enumerate(plan.components)}
        stem = plan.prefix.removesuffix("_") + "_"
        names = [f"{stem}{name}" for name in packed.preparation.feature_names]
        return np.asarray([place.get(name, -1) for name in names], dtype=np.int64)

    def _complete(self, raw: RawScores) -> RawScores:
        """``raw`` with every key of the plan: no row of a batch may be of a group that gives one."""
        plan = self.manifest.outputs
        n_rows = len(next(iter(raw.values()), ()))
        wide = {"probabilities": len(plan.labels), "components": len(plan.components)}
        for key in plan.raw:
            if key not in raw:
                shape = (n_rows, wide[key]) if key in wide else (n_rows,)
                whole = key in ("label", "cluster", "normal")
                raw[key] = np.zeros(shape, np.int64) if whole else np.full(shape, np.nan)
        return raw


def _part(batch: RecordBatch, rows: Int64, fields: tuple[str, ...]) -> RecordBatch:
    """``rows`` of the ``fields`` that ``batch`` has."""
    columns = {name: part_of(batch.columns[name], rows) for name in fields if name in batch}
    return RecordBatch(columns, len(rows))  # type: ignore[arg-type]
