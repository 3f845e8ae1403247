"""One model per group (``by``), all of them one packed version.

Every group goes through what a training of its own goes through (rows and fields dropped, preparation, split,
fit, check of the saved form); field types, classes and limits on the whole are those of all rows. A group that
cannot be trained is counted and named, and the others go on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kepler.core.algorithms import AlgorithmInfo, Fitted, RawScores, Run, SummaryTable, TrainingSet
from kepler.core.errors import InvalidInput
from kepler.core.group_table import GroupTable, Place
from kepler.core.groups import Groups, spread_of
from kepler.core.jobs import Notice
from kepler.core.outputs import OutputPlan
from kepler.core.packed import LOGISTIC, MAX_BYTES, Packer, PackerOfGroups, kind_of, union_preparation
from kepler.core.packed_trees import ESTIMATORS, MAX_COLUMNS, TreePacker
from kepler.core.preparation import NumberFeature, OneHotFeature, Preparation
from kepler.core.preparing import PrepareOptions, select
from kepler.core.profile import FieldProfile
from kepler.core.records import NumberColumn
from kepler.core.saved import SavedModel
from kepler.core.targets import Target
from kepler.core.training import TrainSpec
from kepler.ports.formats import GroupFormats, GroupPackWriter, ModelFormats
from kepler.ports.training import TrainingFiles
from kepler.usecases.group_answers import FIGURES, GroupAnswers
from kepler.usecases.group_rows import GroupedRows, read_groups, text_fields
from kepler.usecases.prepare import Chosen, PreparedRows, build, split
from kepler.usecases.scoring import cast_rows

Fit = Callable[[TrainingSet, Run], Fitted]

CHECKED_ROWS = 200  # of each group, for its saved form
TOLERANCE = 1e-6
STEPS = 200  # reports of progress
SHOWN_NOTICES = 12
_NUMBERS = re.compile(r"\d[\d,.]*")


@dataclass(slots=True)
class GroupedModel:
    """What a manifest needs of a training by groups. ``saved`` is None when nothing is kept."""

    plan: OutputPlan
    preparation: Preparation
    groups: Groups
    saved: SavedModel | None
    profile: dict[str, FieldProfile]
    metrics: tuple[tuple[str, float], ...]
    summary: dict[str, SummaryTable]
    notices: list[Notice]
    rows_used: int
    rows_sent: int


@dataclass(slots=True)
class GroupNotices:
    """A `Run` for the fits of one group after the other: the same notice of many groups is said once, counted."""

    seed: int
    threads: int
    group: str = ""
    found: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])

    def progress(self, fraction: float, phase: str) -> None:
        """Progress counts groups, not what happens inside one."""

    def notice(self, level: str, text: str) -> None:
        entry = self.found.setdefault(_NUMBERS.sub("#", text), [level, text, self.group, 0])
        entry[3] += 1

    def said(self, n_groups: int) -> list[Notice]:
        """At most `SHOWN_NOTICES`, those of most groups first."""
        ranked = sorted(self.found.values(), key=lambda entry: -entry[3])
        out = [
            Notice(level, f"in {count:,} of {n_groups:,} groups, such as {group}: {text}")
            for level, text, group, count in ranked[:SHOWN_NOTICES]
        ]
        if len(ranked) > SHOWN_NOTICES:
            out.append(
                Notice("info", f"{len(ranked) - SHOWN_NOTICES} more kinds of notices of groups are not shown")
            )
        return out


@dataclass(slots=True)
class _Kept:
    """What is known of each group while training goes on."""

    rows: list[int]
    reasons: list[str]
    slots: list[int]
    places: list[Place]
    saved: list[SavedModel] = field(default_factory=list[SavedModel])
    fields: dict[str, bool] = field(default_factory=dict[str, bool])  # name: whether it is a number

    @classmethod
    def of(cls, n_groups: int) -> _Kept:
        return cls([0] * n_groups, [""] * n_groups, [-1] * n_groups, [Place()] * n_groups)


class GroupTraining:
    """Trains the groups of one ``spec``. ``fit`` makes a fresh algorithm each time."""

    def __init__(
        self, spec: TrainSpec, info: AlgorithmInfo, fit: Fit, files: TrainingFiles, formats: ModelFormats
    ) -> None:
        self._spec = spec
        self._info = info
        self._fit = fit
        self._files = files
        self._formats = formats
        self._options = PrepareOptions(
            info.name, spec.nulls, spec.categoricals, info.native_nulls, info.native_categoricals
        )
        self._packer: PackerOfGroups | None = None
        self._decided = False

    def run(self, run: Run) -> GroupedModel:
        """Train and answer. Raises `InvalidInput` when no group at all can be trained."""
        spec, info = self._spec, self._info
        self._options.check(has_target=info.task.needs_target)
        run.progress(0.0, "loading")
        rows = read_groups(spec, info, self._files.rows)
        writer = self._writer()
        try:
            return self._train(rows, writer, run)
        except BaseException:
            if writer is not None:
                writer.abandon()
            raise

    def _train(self, rows: GroupedRows, writer: GroupPackWriter | None, run: Run) -> GroupedModel:
        spec, info, n_groups = self._spec, self._info, rows.count
        answers = GroupAnswers(info.task, rows.n_sent, spec.output == "predictions")
        told = GroupNotices(run.seed, run.threads)
        kept = _Kept.of(n_groups)
        step = max(1, n_groups // STEPS)
        for group, (table, y) in enumerate(rows.tables()):
            if group % step == 0:
                run.progress(0.3 + 0.6 * group / n_groups, f"group {group + 1:,} of {n_groups:,}")
            told.group = rows.name(group)
            try:
                self._group(rows, group, table, y, answers, kept, told, writer)
            except InvalidInput as error:
                kept.reasons[group] = " ".join(filter(None, [error.message, error.cause]))[:300]
        trained = [group for group in range(n_groups) if not kept.reasons[group]]
        if not trained:
            raise InvalidInput(
                f"None of {n_groups:,} groups could be trained",
                cause=f"{rows.name(0)}: {kept.reasons[0]}",
                fix="Use fewer fields after 'by', other parameters, or more rows for each group.",
            )
        return self._finish(rows, answers, kept, told, writer, run)

    def _writer(self) -> GroupPackWriter | None:
        if not self._spec.model:
            return None
        if not isinstance(self._formats, GroupFormats):
            raise InvalidInput("These formats keep no groups", fix="Leave out 'by' or 'into'.")
        return self._formats.write_groups(self._files.draft())

    def _group(
        self, rows: GroupedRows, group: int, table: Any, y: Any, answers: GroupAnswers, kept: _Kept,
        told: GroupNotices, writer: GroupPackWriter | None,
    ) -> None:  # fmt: skip
        spec = self._spec
        selection = select(table, spec.features, spec.target, spec.nulls)
        target = None
        if y is not None:
            target = Target(y if selection.kept is None else y[selection.kept], rows.classes)
        chosen = Chosen(table, selection, target, self._options, {})
        prepared = build(chosen, split(spec, self._info, chosen), spec.seed, consume=False)
        for notice in prepared.notices:
            told.notice(notice.level, notice.text)
        for notice in selection.notices:
            if notice.text.startswith("dropped field"):
                told.notice(notice.level, notice.text)
        fitted = self._fit(prepared.training_set(), told)
        if prepared.train is not None and fitted.training_scores is not None:
            raise InvalidInput("It cannot answer for rows it has not seen", fix="Leave out test_size.")
        raw = fitted.training_scores or fitted.score(cast_rows(prepared.x, fitted.dtype))
        if writer is not None:
            self._keep(rows, group, fitted, raw, prepared, answers, kept, writer)
        start, stop = int(rows.bounds[group]), int(rows.bounds[group + 1])
        sent = rows.order[start:stop]
        sent = sent if selection.kept is None else sent[selection.kept]
        answers.columns(fitted.component_names)
        answers.put(sent, raw, fitted.component_names)
        if prepared.train is not None:
            answers.held[sent[~prepared.train]] = True
        kept.rows[group] = selection.n_kept
        for feature in prepared.preparation.features:
            kept.fields[feature.field] = isinstance(feature, NumberFeature)

    def _keep(
        self, rows: GroupedRows, group: int, fitted: Fitted, raw: RawScores, prepared: PreparedRows,
        answers: GroupAnswers, kept: _Kept, writer: GroupPackWriter,
    ) -> None:  # fmt: skip
        """Keep the group's model: in the shared arrays where they answer alike, else by itself."""
        step = max(1, len(prepared.x) // CHECKED_ROWS)
        few = slice(0, step * CHECKED_ROWS, step)
        sample, preparation = cast_rows(prepared.x[few], fitted.dtype), prepared.preparation
        packer = self._packer_for(rows, fitted)
        slot = -1
        if packer is not None:
            expected = {key: values[few] for key, values in raw.items()}
            slot = packer.add(fitted, preparation, sample.astype(np.float64), expected, TOLERANCE)
        kept.slots[group] = slot
        if slot < 0:
            columns = answers.columns(fitted.component_names)
            place, saved = writer.add(fitted, sample, preparation, columns)
            kept.places[group] = place
            kept.saved.append(saved)

    def _packer_for(self, rows: GroupedRows, fitted: Fitted) -> PackerOfGroups | None:
        """Where the group's model may go with the others; None keeps it by itself."""
        if self._spec.categoricals != "onehot" or self._spec.nulls == "native":
            return None
        if self._packer is None and not self._decided:
            self._decided = True
            self._packer = self._new_packer(rows, fitted)
        return self._packer

    def _new_packer(self, rows: GroupedRows, fitted: Fitted) -> PackerOfGroups | None:
        kind, trees = kind_of(fitted.estimator), type(fitted.estimator).__name__ in ESTIMATORS
        if not kind and not trees:
            return None
        preparation = union_preparation(
            [name for name in self._spec.features if self._can_pack(rows, name)],
            text_fields(rows, self._spec.features),
            self._spec.nulls,
        )
        columns, width = len(preparation.feature_names), max(1, len(rows.classes))
        if trees:
            fits = columns <= MAX_COLUMNS and fitted.dtype == "float32"
            return TreePacker(preparation, self._info.task, width, rows.count) if fits else None
        width = width if kind == LOGISTIC else 1
        fits = 8 * rows.count * columns * width <= MAX_BYTES and fitted.dtype == "float64"
        return Packer(preparation, kind, width, rows.count) if fits else None

    @staticmethod
    def _can_pack(rows: GroupedRows, name: str) -> bool:
        return isinstance(rows.columns[name], NumberColumn) or bool(text_fields(rows, (name,)))

    def _finish(
        self, rows: GroupedRows, answers: GroupAnswers, kept: _Kept, told: GroupNotices,
        writer: GroupPackWriter | None, run: Run,
    ) -> GroupedModel:  # fmt: skip
        spec, info = self._spec, self._info
        plan = OutputPlan.of(
            info.task,
            algorithm=info.name,
            params=spec.params,
            raw=tuple(answers.keys),
            target=spec.target,
            labels=rows.classes,
            components=tuple(answers.names),
            prefix=info.output_prefix,
        )
        if spec.probabilities:
            plan.check_probabilities(info.name)
        y = codes = None
        codes = np.full(rows.n_sent, -1, dtype=np.int64)
        codes[rows.order] = np.repeat(np.arange(rows.count), np.diff(rows.bounds))
        if rows.y is not None:
            y = np.zeros(rows.n_sent, dtype=rows.y.dtype)
            y[rows.order] = rows.y
        figures = answers.figures(codes, y, rows.count)
        failed = sum(map(bool, kept.reasons))
        trained = np.asarray([not reason for reason in kept.reasons])
        groups = Groups(
            rows.fields,
            rows.count - failed,
            failed,
            self._packer.slots if self._packer else 0,
            spread_of(np.asarray(kept.rows)[trained]),
            FIGURES[info.task],
            spread_of(figures[trained]),
        )
        table = GroupTable(
            rows.fields, rows.keys, tuple(kept.rows), FIGURES[info.task],
            tuple(float(value) if np.isfinite(value) else None for value in figures),
            tuple(kept.reasons), tuple(kept.slots), tuple(kept.places),
        )  # fmt: skip
        saved = None if writer is None else self._saved(writer, table, kept, answers)
        metrics = answers.metrics(y, len(rows.classes))
        metrics += (("groups", float(groups.count)), ("groups_failed", float(failed)))
        if spec.output == "predictions":
            names = plan.columns(as_name=spec.as_name, probabilities=spec.probabilities)
            sink = self._files.predictions(names)
            answers.write(plan, sink, run, as_name=spec.as_name, probabilities=spec.probabilities)
            sink.close()
        return GroupedModel(
            plan=plan,
            preparation=_read_by_any(kept, spec),
            groups=groups,
            saved=saved,
            profile=rows.profile,
            metrics=metrics,
            summary={"default": _overview(groups, info.name)},
            notices=[
                *rows.notices,
                *_dropped(rows, answers, spec, kept),
                *_failures(rows, kept),
                *told.said(rows.count),
            ],
            rows_used=int(np.count_nonzero(answers.answered)),
            rows_sent=rows.n_sent,
        )

    def _saved(
        self, writer: GroupPackWriter, table: GroupTable, kept: _Kept, answers: GroupAnswers
    ) -> SavedModel:
        packer = self._packer if self._packer and self._packer.slots else None
        files = writer.close(table, packer.done() if packer else None)
        agreement = max([packer.agreement if packer else 0.0, *(item.agreement for item in kept.saved)])
        return SavedModel(
            format="groups",
            files=files,
            dtype="float64",
            outputs=tuple(answers.keys),
            agreement=agreement,
            checked_rows=sum(item.checked_rows for item in kept.saved)
            + sum(
                min(rows, CHECKED_ROWS) for rows, slot in zip(kept.rows, kept.slots, strict=True) if slot >= 0
            ),
            reason=kept.saved[0].reason if kept.saved else "",
        )


def _read_by_any(kept: _Kept, spec: TrainSpec) -> Preparation:
    """The fields that any group reads, with their types; how is each group's own."""
    numbers = [name for name in spec.features if kept.fields.get(name) is True]
    texts = [name for name in spec.features if kept.fields.get(name) is False]
    return Preparation(
        spec.nulls, (*map(NumberFeature, numbers), *(OneHotFeature(name, ()) for name in texts))
    )


def _overview(groups: Groups, algorithm: str) -> SummaryTable:
    cells = [
        ("algorithm", algorithm),
        ("by", ", ".join(groups.fields)),
        ("groups", str(groups.count)),
        ("groups that could not be trained", str(groups.failed)),
    ]
    for what, values in (("rows of a group", groups.rows), (f"{groups.metric} of a group", groups.values)):
        for name, value in zip(("least", "median", "most"), values, strict=False):
            cells.append((f"{what}, {name}", f"{value:.6g}"))
    return SummaryTable(("groups", "value"), tuple(cells))


def _dropped(rows: GroupedRows, answers: GroupAnswers, spec: TrainSpec, kept: _Kept) -> list[Notice]:
    """Rows left out inside groups that were trained."""
    sizes = np.diff(rows.bounds)
    dropped = sum(
        int(size) - n for size, n, reason in zip(sizes, kept.rows, kept.reasons, strict=True) if not reason
    )
    if not dropped:
        return []
    missing = {name: int(np.count_nonzero(column.missing)) for name, column in rows.columns.items()}
    worst = sorted((name for name, n in missing.items() if n), key=lambda name: -missing[name])
    where = ", ".join(f"'{name}' ({missing[name]:,})" for name in worst[:5])
    setting = "nulls=drop; nulls=impute keeps them" if spec.nulls == "drop" else "rows need a target"
    text = f"dropped {dropped:,} of {rows.n_sent:,} rows: null in {where} ({setting})"
    return [Notice("warn", text)]


def _failures(rows: GroupedRows, kept: _Kept) -> list[Notice]:
    """Groups without a model, by reason: counted, the first three named."""
    found: dict[str, list[int]] = {}
    for group, reason in enumerate(kept.reasons):
        if reason:
            found.setdefault(_NUMBERS.sub("#", reason), []).append(group)
    out: list[Notice] = []
    for groups in sorted(found.values(), key=len, reverse=True)[:SHOWN_NOTICES]:
        named = ", ".join(rows.name(group) for group in groups[:3]) + (", ..." if len(groups) > 3 else "")
        text = f"{len(groups):,} of {rows.count:,} groups have no model ({named}): {kept.reasons[groups[0]]}"
        out.append(Notice("warn", text))
    return out
