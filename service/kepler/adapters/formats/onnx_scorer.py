"""Scores through ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np

from kepler.adapters.formats.graph import ALLOWED
from kepler.adapters.formats.onnx_check import check_model
from kepler.core.algorithms import Matrix, RawScores
from kepler.core.errors import InvalidInput

ERRORS_ONLY = 3


def load_runtime() -> None:
    """Import ONNX Runtime now, so that the first model does not wait for it."""
    import onnxruntime  # noqa: F401


class OnnxScorer:
    """A checked model in a session of its own; thread-safe.

    ``block_rows`` bounds the rows per run, for graphs whose intermediate results are wide; 0 is no bound.
    """

    def __init__(self, model: bytes, *, dtype: str, threads: int = 1, block_rows: int = 0) -> None:
        import onnxruntime as ort

        check_model(model, ALLOWED)
        options = ort.SessionOptions()
        options.intra_op_num_threads = max(1, threads)
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        # A waiting thread must not burn the core another search needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, none of them public
            raise InvalidInput(
                "The ONNX model cannot be loaded", cause=str(error).splitlines()[0][:300]
            ) from error
        self._dtype = np.dtype(dtype)
        self._block_rows = block_rows
        self._names = [item.name for item in self._session.get_outputs()]
        given = self._session.get_inputs()
        shape = given[0].shape if len(given) == 1 else []
        if len(shape) != 2 or not isinstance(shape[1], int):
            raise InvalidInput("The ONNX model does not take one matrix", fix="Train or export it again.")
        self.n_features: int = shape[1]
        self.size_bytes = len(model) * 2  # the session keeps its own copy beside the graph's tables

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
        block = self._block_rows
        if not block or len(rows) <= block:
            return self._run(rows)
        parts = [self._run(rows[start : start + block]) for start in range(0, len(rows), block)]
        return {key: np.concatenate([part[key] for part in parts]) for key in self._names}

    def _run(self, rows: Matrix) -> RawScores:
        arrays: list[Any] = list(self._session.run(self._names, {"x": rows}))
        return dict(zip(self._names, arrays, strict=True))
