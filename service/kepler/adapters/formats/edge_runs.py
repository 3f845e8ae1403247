"""Runs forms of a graph as a gateway does: one row, one thread, no spinning."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kepler.adapters.formats.edge_graph import to_bytes
from kepler.adapters.formats.graph import ALLOWED
from kepler.adapters.formats.onnx_check import check_model
from kepler.adapters.formats.onnx_scorer import ERRORS_ONLY
from kepler.core.algorithms import Matrix
from kepler.core.errors import InvalidInput
from kepler.core.optimization import Cost

ROUNDS = 10
RUNS = 100
_WARM_UP = 20


def offline_optimized(model: bytes) -> bytes:
    """``model`` as ONNX Runtime simplifies it, at the highest level that leaves only operators gateways allow.

    The extended level fuses operators into ONNX Runtime's own, which would bind the file to its version: it is
    taken where it made none of them.
    """
    import onnx
    import onnxruntime as ort

    for level in (
        ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ):
        with tempfile.TemporaryDirectory(prefix="kepler-edge-") as folder:
            path = Path(folder) / "optimized.onnx"
            options = _options()
            options.graph_optimization_level = level
            options.optimized_model_filepath = str(path)
            ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            made = to_bytes(onnx.load(str(path)))
        try:
            check_model(made, ALLOWED)
        except InvalidInput:
            continue
        return made if len(made) <= len(model) else model
    return model


def costs(models: Mapping[str, bytes], rows: Matrix) -> dict[str, Cost]:
    """Cost of each model on single rows of ``rows``, in turns, so that a busy moment meets all of them alike.

    Processor time of the calling thread, which does all the work: other programs do not count.
    """
    sessions = {name: session(model) for name, model in models.items()}
    names = {name: [item.name for item in each.get_outputs()] for name, each in sessions.items()}
    single = [np.ascontiguousarray(rows[place : place + 1]) for place in range(min(len(rows), RUNS))]
    times: dict[str, list[int]] = {name: [] for name in models}
    for round_ in range(-1, ROUNDS):
        for name, each in sessions.items():
            wanted, found = names[name], times[name] if round_ >= 0 else []
            for place in range(RUNS if round_ >= 0 else _WARM_UP):
                feed = {"x": single[place % len(single)]}
                began = time.thread_time_ns()
                each.run(wanted, feed)
                found.append(time.thread_time_ns() - began)
    return {
        name: Cost(len(models[name]), *(float(item) / 1000 for item in np.quantile(times[name], (0.5, 0.99))))
        for name in models
    }


def session(model: bytes) -> Any:
    import onnxruntime as ort

    return ort.InferenceSession(model, _options(), providers=["CPUExecutionProvider"])


def _options() -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
