"""Saves and loads models without ever pickling: ONNX first, else the library's own safe format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kepler.adapters.formats import native, states
from kepler.adapters.formats.agreement import Agreement, check_agreement
from kepler.adapters.formats.graph import OPSET
from kepler.adapters.formats.group_pack import Pack, PackWriter
from kepler.adapters.formats.onnx_check import MAX_BYTES
from kepler.adapters.formats.onnx_scorer import OnnxScorer
from kepler.adapters.formats.writers import NotConvertible, Written, write_onnx
from kepler.core.algorithms import Fitted, Matrix
from kepler.core.errors import InvalidInput, MissingExtra
from kepler.ports.formats import SavedModel, Scorer

ONNX_FILE = "model.onnx"
# CatBoost answers its symmetric trees by table look-up, ten times and more faster than ONNX nodes; XGBoost
# is about twice as fast. docs/decisions/0006-model-formats.md has the figures.
QUICKER_NATIVELY = frozenset({"catboost", "xgboost"})
SERVES = "serves"


class SafeModelFormats:
    """Implements `kepler.ports.formats.ModelFormats`, `EstimatorStates` and `GroupFormats`."""

    def save(self, fitted: Fitted, sample: Matrix, folder: Path) -> SavedModel:
        """Write ``fitted`` into ``folder``; see the port.

        ``sample`` (n_rows, n_features) are rows as the estimator was trained on, at least one.
        """
        if not fitted.native_format:
            raise InvalidInput(
                f"{type(fitted.estimator).__name__} cannot be saved",
                cause="It only gives an answer for the rows it was trained on",
                fix="Leave 'into' out.",
            )
        rows = np.ascontiguousarray(sample, dtype=fitted.dtype)
        if not len(rows):
            raise InvalidInput("A model is saved only with rows to check the file on")
        outputs = _outputs(fitted, rows)
        try:
            written = write_onnx(fitted, rows.shape[1])
            agreement = self._check(fitted, rows, written)
        except NotConvertible as error:
            return self._save_native(fitted, rows, folder, outputs, str(error))
        if agreement.reason:
            reason = f"the ONNX form did not agree: {agreement.reason}"
            return self._save_native(fitted, rows, folder, outputs, reason)
        (folder / ONNX_FILE).write_bytes(written.model)
        saved = SavedModel(
            format="onnx",
            files=(ONNX_FILE,),
            dtype=fitted.dtype,
            outputs=outputs,
            agreement=agreement.largest,
            checked_rows=agreement.rows,
            opset=OPSET,
            extra={"block_rows": str(written.block_rows)} if written.block_rows else {},
        )
        return (
            self._beside(saved, fitted, rows, folder) if fitted.native_format in QUICKER_NATIVELY else saved
        )

    def load(self, saved: SavedModel, folder: Path, *, threads: int = 1) -> Scorer:
        """Open what `save` wrote; see the port."""
        if saved.dtype not in ("float32", "float64"):
            raise InvalidInput(f"The model's matrix type {saved.dtype[:40]!r} is unknown")
        if SERVES in saved.extra:
            try:
                return native.load(_served(saved), _inside(folder, saved.files[1:]), threads=threads)
            except MissingExtra:
                pass  # without the library the ONNX file answers, as exactly and more slowly
        if saved.format == "onnx":
            path = _inside(folder, saved.files[:1])
            if path.stat().st_size > MAX_BYTES:
                raise InvalidInput(f"The model file has more than {MAX_BYTES} bytes")
            block_rows = int(saved.extra.get("block_rows", "0"))
            return OnnxScorer(path.read_bytes(), dtype=saved.dtype, threads=threads, block_rows=block_rows)
        return native.load(saved, _inside(folder, saved.files), threads=threads)

    def save_state(self, fitted: Fitted, folder: Path) -> str:
        """Write the estimator for ``partial_fit``; see the port."""
        return states.save_state(fitted, folder)

    def load_state(self, name: str, folder: Path) -> Any:
        """The estimator that `save_state` wrote; see the port."""
        return states.load_state(name, folder)

    def write_groups(self, folder: Path) -> PackWriter:
        """A pack of one model per group in ``folder``; see `kepler.ports.formats.GroupFormats`."""
        return PackWriter(folder, self)

    def open_groups(self, folder: Path, *, threads: int = 1) -> Pack:
        """The pack that `write_groups` left in ``folder``."""
        return Pack(folder, self, threads)

    def _beside(self, saved: SavedModel, fitted: Fitted, rows: Matrix, folder: Path) -> SavedModel:
        """Keep the library's own file beside the ONNX file and let it serve."""
        other = self._save_native(fitted, rows, folder, saved.outputs, "")
        return replace(
            saved,
            files=(*saved.files, *other.files),
            agreement=max(saved.agreement, other.agreement),
            extra={**saved.extra, **other.extra, SERVES: other.format},
        )

    def _check(self, fitted: Fitted, rows: Matrix, written: Written) -> Agreement:
        if len(written.model) > MAX_BYTES:
            return Agreement(0.0, 0, f"it has more than {MAX_BYTES} bytes")
        try:
            scorer = OnnxScorer(written.model, dtype=fitted.dtype, block_rows=written.block_rows)
        except InvalidInput as error:
            return Agreement(0.0, 0, error.cause)
        return check_agreement(fitted.score, scorer.score, rows, written)

    def _save_native(
        self, fitted: Fitted, rows: Matrix, folder: Path, outputs: tuple[str, ...], reason: str
    ) -> SavedModel:
        """The native file is read back and checked like any other: nothing is trusted unread."""
        saved = replace(native.save(fitted, rows.shape[1], folder), outputs=outputs, reason=reason)
        scorer = self.load(saved, folder)
        agreement = check_agreement(fitted.score, scorer.score, rows, Written(b""))
        if agreement.reason:
            for name in saved.files:
                (folder / name).unlink()
            raise InvalidInput(
                f"{type(fitted.estimator).__name__} cannot be saved", cause=f"Read back, {agreement.reason}"
            )
        return replace(saved, agreement=agreement.largest, checked_rows=agreement.rows)


def _outputs(fitted: Fitted, rows: Matrix) -> tuple[str, ...]:
    """Keys of what it answers; an estimator that cannot answer a single row is no model for a search."""
    try:
        return tuple(fitted.score(rows[:1]))
    except Exception as error:  # any of scikit-learn's estimators by its dotted name ends up here
        raise InvalidInput(
            f"{type(fitted.estimator).__name__} cannot be saved",
            cause="It does not answer one row at a time",
            fix="Leave 'into' out, or choose another algorithm.",
        ) from error


def _served(saved: SavedModel) -> SavedModel:
    return replace(saved, format=saved.extra[SERVES], files=saved.files[1:])


def _inside(folder: Path, files: tuple[str, ...]) -> Path:
    """The one model file; a name that leaves the folder is refused."""
    if len(files) != 1 or Path(files[0]).name != files[0] or files[0] in ("", ".", ".."):
        raise InvalidInput(f"The model's files {files!r} are not one file in its folder")
    path = folder / files[0]
    if not path.is_file():
        raise InvalidInput(f"The model file {files[0]} is missing")
    return path
