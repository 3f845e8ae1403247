"""What optimising a version for the edge found: sizes, times, agreement, thresholds."""

from __future__ import annotations

from dataclasses import dataclass, field

from kepler.core.algorithms import SummaryTable
from kepler.core.golden import GoldenVectors

LEAST_AGREEMENT = 0.995  # with the version it came from, over rows that were not used to make it
MIN_SPEEDUP = 1.1
MIN_SHRINK = 1.5
MAX_SLOWDOWN = 1.05


@dataclass(frozen=True, slots=True)
class Cost:
    """What a graph costs: bytes, and processor microseconds of one row in one thread."""

    size_bytes: int
    p50_us: float
    p99_us: float


@dataclass(frozen=True, slots=True)
class Refit:
    """A threshold before and after; ``agreement`` is the share of held-out rows with the same alert."""

    output: str
    before: float
    after: float
    agreement: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run the model, measured against the original.

    Attributes
    ----------
    method
        ``float32`` or ``int8`` (some products in INT8, the rest in float32).
    agreement
        Share of held-out rows with the same answer: the label, the flag, the cluster; of numbers, those within
        1 % of their spread.
    largest_difference
        Largest difference of a number, relative to max(1, |value|).
    golden
        Its own recorded answers.
    thresholds
        Fitted anew, on rows that ``agreement`` does not count.
    refused
        Why it may not be used; empty where it may.
    """

    method: str
    model: bytes
    cost: Cost
    agreement: float
    largest_difference: float
    golden: GoldenVectors
    thresholds: tuple[Refit, ...] = ()
    refused: str = ""

    def pays(self, original: Cost) -> bool:
        """Whether it is worth a version of its own: faster by a tenth, or a third smaller and no slower."""
        faster = original.p50_us >= MIN_SPEEDUP * self.cost.p50_us
        smaller = original.size_bytes >= MIN_SHRINK * self.cost.size_bytes
        return faster or (smaller and self.cost.p50_us <= MAX_SLOWDOWN * original.p50_us)


@dataclass(frozen=True, slots=True)
class Optimization:
    """The original's cost and all candidates. ``calibrated_on`` says where the rows came from."""

    original: Cost
    candidates: tuple[Candidate, ...]
    calibrated_on: str
    fit_rows: int
    check_rows: int
    notes: tuple[str, ...] = field(default=())

    @property
    def best(self) -> Candidate | None:
        """Of those that agree and pay the quickest; where two are about as quick, the smaller one."""
        able = [item for item in self.candidates if not item.refused and item.pays(self.original)]
        if not able:
            return None
        quickest = min(item.cost.p50_us for item in able)
        close = [item for item in able if item.cost.p50_us <= MIN_SPEEDUP * quickest]
        return min(close, key=lambda item: (item.cost.size_bytes, item.cost.p50_us))

    def table(self) -> SummaryTable:
        """One row for the original and for each candidate."""
        best = self.best
        rows = [("original", *_figures(self.original, self.original), "", "", "")]
        for item in self.candidates:
            verdict = item.refused or ("chosen" if item is best else "")
            if not verdict and not item.pays(self.original):
                verdict = "does not pay"
            rows.append(
                (
                    item.method,
                    *_figures(item.cost, self.original),
                    f"{item.agreement:.4f}",
                    f"{item.largest_difference:.3g}",
                    verdict,
                )
            )
        return SummaryTable(
            (
                "form", "size_bytes", "size_ratio", "latency_us_p50", "latency_us_p99", "latency_ratio",
                "agreement", "largest_difference", "verdict",
            ),
            tuple(rows),
        )  # fmt: skip

    def why_not(self) -> str:
        """Why no candidate was chosen, for people."""
        reasons = [
            f"{item.method}: {item.refused or _too_little(item, self.original)}" for item in self.candidates
        ]
        return "; ".join(reasons)


def _figures(cost: Cost, original: Cost) -> tuple[str, str, str, str, str]:
    return (
        str(cost.size_bytes),
        f"{original.size_bytes / max(1, cost.size_bytes):.2f}",
        f"{cost.p50_us:.1f}",
        f"{cost.p99_us:.1f}",
        f"{original.p50_us / max(1e-9, cost.p50_us):.2f}",
    )


def _too_little(item: Candidate, original: Cost) -> str:
    return (
        f"{item.cost.p50_us:.1f} µs and {item.cost.size_bytes:,} bytes instead of {original.p50_us:.1f} µs and "
        f"{original.size_bytes:,} bytes"
    )
