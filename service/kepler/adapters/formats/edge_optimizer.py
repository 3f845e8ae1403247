"""Tries the forms of a graph that a gateway may gain from. Implements `ports.optimizing.EdgeOptimizer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kepler.adapters.formats.edge_answers import (
    agreement,
    check_thresholds,
    fit_threshold,
    largest_difference,
    output_numbers,
)
from kepler.adapters.formats.edge_boundary import refit_boundary
from kepler.adapters.formats.edge_graph import NotForEdge, in_single_precision
from kepler.adapters.formats.edge_quantize import in_int8, large_products
from kepler.adapters.formats.edge_runs import costs, offline_optimized, session
from kepler.adapters.formats.graph import ALLOWED
from kepler.adapters.formats.onnx_check import check_model
from kepler.core.algorithms import Matrix, RawScores
from kepler.core.errors import InvalidInput
from kepler.core.golden import GoldenVectors
from kepler.core.manifest import Manifest
from kepler.core.optimization import LEAST_AGREEMENT, Candidate, Cost, Optimization, Refit

MAX_MODEL_BYTES = 64 * 2**20
LEAST_ROWS = 100
SINGLE = "float32"
INT8 = "int8"
# How far recorded answers may be off on another processor: rounding of float32 sums, and one step of INT8.
_TOLERANCES = {SINGLE: 1e-4, INT8: 2e-2}
_NO_COST = Cost(0, 0.0, 0.0)


class OnnxEdgeOptimizer:
    def optimize(
        self,
        manifest: Manifest,
        model: bytes,
        rows: Matrix,
        thresholds: Mapping[str, float],
        calibrated_on: str,
    ) -> Optimization:
        check_thresholds(thresholds)
        if len(model) > MAX_MODEL_BYTES:
            raise InvalidInput(
                f"The model has {len(model) // 2**20:,} MB and at most {MAX_MODEL_BYTES // 2**20} MB are optimised",
                fix="Train a smaller one for gateways.",
            )
        if len(rows) < LEAST_ROWS:
            raise InvalidInput(
                f"{len(rows)} rows are too few to calibrate on",
                cause=f"At least {LEAST_ROWS} rows with a value in every field that the model reads are needed",
                fix="Give more rows with --calibration.",
            )
        order = np.random.default_rng(0).permutation(len(rows))
        fit, check = rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]
        try:
            forms = _forms(model, fit)
        except NotForEdge as error:
            raise InvalidInput(
                f"{manifest.name}@{manifest.version} gains nothing from optimising",
                cause=str(error)[:1].upper() + str(error)[1:],
                fix="Deploy it as it is.",
            ) from error
        truth = _Truth(manifest, model, fit, check, thresholds)
        tried = [truth.measured(method, made) for method, made in forms]
        found = costs({"original": model, **{str(at): item.model for at, item in enumerate(tried)}}, check)
        return Optimization(
            found["original"],
            tuple(replace(item, cost=found[str(at)]) for at, item in enumerate(tried)),
            calibrated_on,
            len(fit),
            len(check),
        )


def _forms(model: bytes, fit: Matrix) -> list[tuple[str, bytes]]:
    single = in_single_precision(model)
    forms = [(SINGLE, single)]
    inner, every = large_products(single, inner=True), large_products(single, inner=False)
    chosen = [inner] if inner == every else [inner, every]
    forms += [(INT8, in_int8(single, fit, products)) for products in chosen if products]
    return [(method, offline_optimized(made)) for method, made in forms]


class _Truth:
    """What the original answers, and how others compare with it."""

    def __init__(
        self, manifest: Manifest, model: bytes, fit: Matrix, check: Matrix, thresholds: Mapping[str, float]
    ) -> None:
        self._plan = manifest.outputs
        self._model, self._fit, self._check = model, fit, check
        self._golden = manifest.golden.matrix(manifest.model.dtype)
        self._thresholds = thresholds
        self._on_fit, self._on_check = _run(model, fit), _run(model, check)
        for name in thresholds:
            output_numbers(self._plan, name, self._on_check)

    def measured(self, method: str, made: bytes) -> Candidate:
        """A candidate without its cost."""
        made, boundary = refit_boundary(self._model, made, self._fit, self._check)
        on_fit, on_check = _run(made, self._fit), _run(made, self._check)
        refits = [boundary] if boundary else []
        refits += [self._refit(name, limit, on_fit, on_check) for name, limit in self._thresholds.items()]
        share = agreement(self._on_check, on_check)
        refused = self._refused(made, on_check, share, refits)
        return Candidate(
            method, made, _NO_COST, share, largest_difference(self._on_check, on_check),
            self._recorded(method, made), tuple(refits), refused,
        )  # fmt: skip

    def _recorded(self, method: str, made: bytes) -> GoldenVectors:
        """Answers to the version's recorded rows, without those that another processor may decide otherwise."""
        rows = self._golden if len(self._golden) else self._check[:8]
        raw = _run(made, rows)
        if (sure := _sure(raw)).any():
            rows, raw = rows[sure], {key: values[sure] for key, values in raw.items()}
        return replace(GoldenVectors.of(rows, raw), tolerance=_TOLERANCES[method])

    def _refit(self, name: str, limit: float, on_fit: RawScores, on_check: RawScores) -> Refit:
        alerts = output_numbers(self._plan, name, self._on_fit) >= limit
        after = fit_threshold(alerts, output_numbers(self._plan, name, on_fit), limit)
        expected = output_numbers(self._plan, name, self._on_check) >= limit
        got = output_numbers(self._plan, name, on_check) >= after
        return Refit(name, limit, after, float((expected == got).mean()))

    def _refused(self, made: bytes, on_check: RawScores, share: float, refits: list[Refit]) -> str:
        try:
            check_model(made, ALLOWED)
        except InvalidInput as error:
            return error.cause
        for key, values in self._on_check.items():
            if (
                key not in on_check
                or on_check[key].dtype != values.dtype
                or on_check[key].shape != values.shape
            ):
                return f"its output {key!r} has another shape or type"
        if share < LEAST_AGREEMENT:
            return f"{share:.4f} of the rows get the same answer and {LEAST_AGREEMENT} are asked for"
        for item in refits:
            if item.agreement < LEAST_AGREEMENT:
                return (
                    f"{item.agreement:.4f} of the rows get the same alert by {item.output!r} "
                    f"and {LEAST_AGREEMENT} are asked for"
                )
        return ""


def _sure(raw: RawScores) -> Any:
    """Rows whose likeliest class leads by more than the tolerance of recorded answers."""
    if "probabilities" not in raw:
        return np.ones(len(next(iter(raw.values()))), dtype=bool)
    ranked = np.sort(raw["probabilities"], axis=1)
    return ranked[:, -1] - ranked[:, -2] > 2 * _TOLERANCES[INT8]


def _run(model: bytes, rows: Matrix) -> RawScores:
    opened = session(model)
    names = [item.name for item in opened.get_outputs()]
    return dict(zip(names, opened.run(names, {"x": np.ascontiguousarray(rows)}), strict=True))
