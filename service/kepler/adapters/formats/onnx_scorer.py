"""Scores through ONNX Runtime."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import structlog

from kepler.adapters.formats.ensemble_cut import Cut, cut_ensemble
from kepler.adapters.formats.graph import ALLOWED
from kepler.adapters.formats.onnx_check import check_model
from kepler.core.algorithms import Matrix, RawScores
from kepler.core.errors import InvalidInput

ERRORS_ONLY = 3
_CHECKED_ROWS = 256
_SEED = 42
_TOLERANCE = 1e-9  # sums of doubles in another order
_TOLERANCE_SINGLE = 1e-5

_REST_S = 2.0  # of a forest that was too slow, before it is tried again

# Its operations are short and take the interpreter's lock again and again: two forests at once would hinder
# each other more than one after the other takes.
_one_forest = threading.Lock()
_log = structlog.get_logger(__name__)


def load_runtime() -> None:
    """Import ONNX Runtime now, so that the first model does not wait for it."""
    import onnxruntime  # noqa: F401


class OnnxScorer:
    """A checked model in a session of its own; thread-safe.

    Many rows of a forest are summed by `TreeColumns`, where that gives the same answers faster.
    ``block_rows`` bounds the rows per run, for graphs whose intermediate results are wide; 0 is no bound.
    """

    def __init__(self, model: bytes, *, dtype: str, threads: int = 1, block_rows: int = 0) -> None:
        check_model(model, ALLOWED)
        self._session = _session(model, threads)
        self._dtype = np.dtype(dtype)
        self._block_rows = block_rows
        self._names = [item.name for item in self._session.get_outputs()]
        given = self._session.get_inputs()
        shape = given[0].shape if len(given) == 1 else []
        if len(shape) != 2 or not isinstance(shape[1], int):
            raise InvalidInput("The ONNX model does not take one matrix", fix="Train or export it again.")
        self.n_features: int = shape[1]
        self.size_bytes = len(model) * 2  # the session keeps its own copy beside the graph's tables
        self._cut: Cut | None = None
        self._walk_s = 0.0  # processor seconds of one row by the whole graph
        self._walks_until = 0.0
        if not block_rows:
            self._cut = self._agreeing(cut_ensemble(model), threads)

    def score(self, x: Matrix) -> RawScores:
        """Scores of ``x`` (n_rows, n_features)."""
        rows = np.ascontiguousarray(x, dtype=self._dtype)
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            raise InvalidInput(f"The model takes {self.n_features} features, not {rows.shape[1:]}")
        if not len(rows):
            return {
                key: value[:0]
                for key, value in self._run(np.zeros((1, self.n_features), self._dtype)).items()
            }
        if self._cut is not None and len(rows) >= self._cut.forest.least_rows:
            scores = self._try_cut(self._cut, rows)
            if scores is not None:
                return scores
        block = self._block_rows
        if not block or len(rows) <= block:
            return self._run(rows)
        parts = [self._run(rows[start : start + block]) for start in range(0, len(rows), block)]
        return {key: np.concatenate([part[key] for part in parts]) for key in self._names}

    def _run(self, rows: Matrix) -> RawScores:
        arrays: list[Any] = list(self._session.run(self._names, {"x": rows}))
        return dict(zip(self._names, arrays, strict=True))

    def _try_cut(self, cut: Cut, rows: Matrix) -> RawScores | None:
        """Scores by columns, or None once that takes longer than the walk would have."""
        limit_s = len(rows) * self._walk_s
        if time.monotonic() < self._walks_until or not _one_forest.acquire(timeout=limit_s):
            return None
        try:
            sums = cut.forest.sums(rows, limit_s)
        finally:
            _one_forest.release()
        if sums is None:
            self._walks_until = time.monotonic() + _REST_S
            return None
        return self._finish(cut, rows, sums)

    def _finish(self, cut: Cut, rows: Matrix, sums: Any) -> RawScores:
        given = {cut.sums: sums}
        if cut.needs_x:
            given["x"] = rows
        arrays: list[Any] = list(self._rest.run(self._names, given))
        return dict(zip(self._names, arrays, strict=True))

    def _agreeing(self, cut: Cut | None, threads: int) -> Cut | None:
        """``cut`` if it answers as the whole graph does, on split values and beside them too."""
        if cut is None:
            return None
        self._rest = _session(cut.rest, threads)
        with np.errstate(over="ignore"):  # splits beyond float32 are infinite in it, for both ways
            rows = cut.forest.example_rows(_CHECKED_ROWS, self.n_features, _SEED).astype(self._dtype)
        tolerance = _TOLERANCE_SINGLE if cut.forest.dtype == np.float32 else _TOLERANCE
        started = time.thread_time()
        whole = self._run(rows)
        self._walk_s = (time.thread_time() - started) / len(rows)
        parts = self._finish(cut, rows, cut.forest.sums(rows))
        # Labels may tie where sums differ in their last bit; the numbers they come from are compared.
        numbers = [key for key in self._names if whole[key].dtype.kind == "f"]
        for key in numbers:
            if not np.allclose(parts[key], whole[key], rtol=tolerance, atol=tolerance, equal_nan=True):
                _log.warning(
                    "model.forest_not_used", output=key, reason="it does not answer as its graph does"
                )
                return None
        self.size_bytes += cut.forest.size_bytes + len(cut.rest)
        return cut if numbers else None


def _session(model: bytes, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = max(1, threads)
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    # A waiting thread must not burn the core another search needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, none of them public
        raise InvalidInput(
            "The ONNX model cannot be loaded", cause=str(error).splitlines()[0][:300]
        ) from error
