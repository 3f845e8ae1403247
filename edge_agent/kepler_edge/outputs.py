"""Names and values of what a model says, as `keplerpredict` names and renders them in Splunk.

=================  =========================================================================================
task               outputs
=================  =========================================================================================
classification     ``predicted(y)``, and ``probability(y=c)`` of up to 20 classes and of those with a threshold
regression         ``predicted(y)``
clustering         ``cluster``, and ``cluster_distance`` where the algorithm has one
anomaly            ``isNormal`` (1 normal, -1 not), ``isOutlier`` or ``is_outlier`` (1 outlier, -1 not), and
                   ``anomaly_score`` (higher is stranger) where the version has it
transform          the component names
=================  =========================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kepler_edge.checked import Section
from kepler_edge.errors import InvalidInput

TASKS = ("classification", "regression", "clustering", "anomaly", "transform")
FLAGS = ("isOutlier", "is_outlier", "isNormal")
MAX_OUTPUTS = 200  # of one prediction record
SHOWN_CLASSES = 20

Value = str | float | int | None


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """Which outputs a model gives and what they are called; see the manifest's ``outputs``."""

    task: str
    target: str
    labels: tuple[str, ...]
    raw: tuple[str, ...]
    components: tuple[str, ...]
    flag: str
    with_score: bool

    @classmethod
    def of(cls, section: Section, task: str) -> OutputPlan:
        """Read the manifest's ``outputs``. Raises `InvalidInput`."""
        plan = cls(
            task,
            section.text("target"),
            section.texts("labels"),
            section.texts("raw", max_items=20),
            section.texts("components"),
            section.choice("flag", FLAGS),
            section.flag("with_score"),
        )
        section.text("prefix")
        section.done()
        needed = {
            "classification": "label",
            "regression": "value",
            "clustering": "cluster",
            "anomaly": "normal",
        }
        if needed.get(task, "components") not in plan.raw:
            raise InvalidInput(
                f"{section.where}: a model for {task} must give {needed.get(task, 'components')!r}"
            )
        return plan

    def picks(self, thresholds: Mapping[str, float]) -> tuple[tuple[str, str, int], ...]:
        """(output, raw array, position in its row or -1 where it has one value), in order."""
        if self.task == "classification":
            found = [(f"predicted({self.target})", "label", -1)]
            if "probabilities" in self.raw:
                shown = len(self.labels) <= SHOWN_CLASSES
                found += [
                    (name, "probabilities", index)
                    for index, label in enumerate(self.labels)
                    for name in [f"probability({self.target}={label})"]
                    if shown or label in thresholds or name in thresholds
                ]
        elif self.task == "regression":
            found = [(f"predicted({self.target})", "value", -1)]
        elif self.task == "clustering":
            found = [("cluster", "cluster", -1)]
            found += [("cluster_distance", "distance", -1)] if "distance" in self.raw else []
        elif self.task == "anomaly":
            found = [(self.flag, "normal", -1)]
            found += [("anomaly_score", "score", -1)] if self.with_score and "score" in self.raw else []
        else:
            found = [(name, "components", index) for index, name in enumerate(self.components)]
        if len(found) > MAX_OUTPUTS:
            raise InvalidInput(f"The model gives {len(found)} outputs and a record holds {MAX_OUTPUTS}")
        return tuple(found)

    def threshold_of(self, name: str, picks: Sequence[tuple[str, str, int]]) -> int:
        """Place in ``picks`` of the output that the threshold ``name`` is about. Raises `InvalidInput`.

        A threshold is named as the output is, as its raw array (``score``, ``value``, ``distance``), or as a class.
        """
        for place, (output, key, index) in enumerate(picks):
            if key in ("label", "cluster", "normal"):
                continue
            if name == output or (index < 0 and name == key):
                return place
            if key == "probabilities" and name == self.labels[index]:
                return place
        raise InvalidInput(
            f"The threshold {name[:100]!r} is about no number that the model gives",
            fix="Name one of " + ", ".join(output for output, _, _ in picks[:5]) + ".",
        )


@dataclass(frozen=True, slots=True)
class Rendered:
    """One prediction; ``nan`` says that one of its numbers is none."""

    out: dict[str, Value]
    alert: bool
    nan: bool


class Renderer:
    """From raw arrays of one row to outputs and whether they are an alert.

    Without thresholds an anomaly model's alert is its flag, and other models raise none.
    """

    def __init__(self, plan: OutputPlan, names: Sequence[str], thresholds: Mapping[str, float]) -> None:
        picks = plan.picks(thresholds)
        missing = [key for _, key, _ in picks if key not in names]
        if missing:
            raise InvalidInput(f"The model file gives no {missing[0]!r}, which its manifest promises")
        at = {name: place for place, name in enumerate(names)}
        self._picks = tuple((output, key, at[key], index) for output, key, index in picks)
        self._labels = plan.labels
        self._turned = plan.flag != "isNormal"
        self._flag = plan.flag if plan.task == "anomaly" and not thresholds else ""
        self._alarm = at["normal"] if plan.task == "anomaly" and not thresholds else -1
        self._thresholds = tuple(
            (picks[plan.threshold_of(name, picks)][0], limit) for name, limit in thresholds.items()
        )
        self.blank = Rendered(dict.fromkeys([output for output, _, _, _ in self._picks]), False, False)

    def alerts(self, out: Mapping[str, Value]) -> bool:
        """Whether outputs that came from elsewhere are an alert, by the same rules."""
        normal = 1 if self._turned else -1
        if self._flag and out.get(self._flag) == normal:
            return True
        numbers = [(out.get(output), limit) for output, limit in self._thresholds]
        return any(isinstance(number, int | float) and number >= limit for number, limit in numbers)

    def render(self, raw: Sequence[Any]) -> Rendered:
        """``raw`` are the arrays of one row, in the order of ``names``."""
        out: dict[str, Value] = {}
        nan = False
        for output, key, place, index in self._picks:
            cell: int | float = raw[place].item(0) if index < 0 else raw[place].item(0, index)
            if key == "label":
                known = 0 <= cell < len(self._labels)
                out[output] = self._labels[int(cell)] if known else None
                nan = nan or not known
            elif key == "normal":
                out[output] = -int(cell) if self._turned else int(cell)
            elif math.isfinite(cell):
                out[output] = cell
            else:
                out[output], nan = None, True
        alert = self._alarm >= 0 and raw[self._alarm].item(0) < 0
        for output, limit in self._thresholds:
            number = out[output]
            if isinstance(number, int | float) and number >= limit:
                alert = True
        return Rendered(out, alert, nan)
