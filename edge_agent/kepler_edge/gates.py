"""Watches a model in its shadow or probation: whether it fails, gives NaN, is slow, or scores another world."""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections import deque

from kepler_edge.model import LoadedModel, Scored
from kepler_edge.package import Manifest
from kepler_edge.release_doc import Gates

MIN_SCORED = 20  # before rates mean anything
MIN_FOR_DRIFT = 200  # with fewer, the index of a sound model exceeds usual gates by chance
KEPT_LATENCIES = 2_000
# Where the service takes a profile's quantiles.
QUANTILES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_LEAST_SHARE = 1e-4


class Drift:
    """Population stability index of a model's answers against its target in training.

    ``PSI = sum((p - q) * ln(p / q))`` over bins (Siddiqi 2006, "Credit Risk Scorecards"): between the profile's
    quantiles for numbers, over the classes for texts.
    """

    def __init__(
        self, edges: tuple[float, ...], labels: tuple[str, ...], expected: tuple[float, ...]
    ) -> None:
        self._edges = edges
        self._labels = {label: place for place, label in enumerate(labels)}
        self._expected = expected
        self._counts = [0] * len(expected)
        self.n = 0

    @classmethod
    def of(cls, manifest: Manifest) -> Drift | None:
        """What the manifest's profile of the target allows; None where it has none."""
        profile = manifest.profile.get(manifest.target) if manifest.target else None
        if profile is None:
            return None
        if manifest.task == "classification":
            labels = manifest.outputs.labels
            seen = dict(profile.top)
            total = sum(seen.get(label, 0) for label in labels)
            if profile.kind != "text" or not total:
                return None
            return cls((), labels, tuple(seen.get(label, 0) / total for label in labels))
        if manifest.task == "regression" and len(profile.quantiles) == len(QUANTILES):
            ends = sorted(set(profile.quantiles))
            # Equal quantiles make one edge: the share below an edge is the highest quantile at it.
            below = [
                max(q for q, at in zip(QUANTILES, profile.quantiles, strict=True) if at == end)
                for end in ends
            ]
            shares = [high - low for low, high in zip([0.0, *below], [*below, 1.0], strict=True)]
            return cls(tuple(ends), (), tuple(shares))
        return None

    def add(self, value: object) -> None:
        if isinstance(value, str):
            place = self._labels.get(value)
        elif isinstance(value, int | float) and self._edges:
            # As in training, a value at an edge lies below it.
            place = bisect_right(self._edges, math.nextafter(float(value), -math.inf))
        else:
            place = None
        if place is not None:
            self._counts[place] += 1
            self.n += 1

    @property
    def index(self) -> float:
        """The index now; 0 before anything was scored."""
        if not self.n:
            return 0.0
        total = 0.0
        for count, expected in zip(self._counts, self._expected, strict=True):
            p, q = max(count / self.n, _LEAST_SHARE), max(expected, _LEAST_SHARE)
            total += (p - q) * math.log(p / q)
        return total


class Watch:
    """Counts what one model did, and judges it."""

    def __init__(self, model: LoadedModel) -> None:
        self.scored = 0
        self.errors = 0
        self.nans = 0
        self.error = ""
        self._latencies_us: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._drift = Drift.of(model.manifest)
        self._lock = threading.Lock()  # one thread scores and another judges

    def observe(self, scored: Scored | None, error: BaseException | str | None) -> None:
        """One scoring: its result, or the error it ended with."""
        with self._lock:
            self.scored += 1
            if scored is None or error is not None:
                self.errors += 1
                self.error = str(error)[:300]
                return
            self.nans += scored.nan
            self._latencies_us.append(scored.lat_us)
            if self._drift is not None:
                self._drift.add(next(iter(scored.out.values()), None))

    @property
    def latency_ms_p99(self) -> float:
        """Of the last `KEPT_LATENCIES` scorings."""
        with self._lock:
            taken = sorted(self._latencies_us)
        return taken[min(len(taken) - 1, len(taken) * 99 // 100)] / 1000 if taken else 0.0

    @property
    def figures(self) -> dict[str, float]:
        """For the report of a step."""
        found = {"scored": self.scored, "errors": self.errors, "nans": self.nans}
        drift = {"drift": round(self._drift.index, 4)} if self._drift is not None and self._drift.n else {}
        return {**found, "latency_ms_p99": round(self.latency_ms_p99, 4), **drift}

    def verdict(self, gates: Gates) -> str:
        """Why the model must go; empty while it may stay."""
        if self.scored < MIN_SCORED:
            return ""
        errors, nans = self.errors / self.scored, self.nans / self.scored
        if errors > gates.max_error_rate:
            return f"{errors:.1%} of scorings failed and {gates.max_error_rate:.1%} may: {self.error}"
        if nans > gates.max_nan_rate:
            return f"{nans:.1%} of scores are NaN and {gates.max_nan_rate:.1%} may be"
        latency = self.latency_ms_p99
        if latency > gates.max_latency_ms:
            return f"A score takes {latency:.3g} ms (p99) and may take {gates.max_latency_ms:g}"
        if gates.max_drift and self._drift is not None and self._drift.n >= MIN_FOR_DRIFT:
            index = self._drift.index
            if index > gates.max_drift:
                return f"Its scores drift: the stability index is {index:.3g} and may be {gates.max_drift:g}"
        return ""
