"""A model that is loaded and scores one reading at a time."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kepler_edge.errors import KeplerError, Refused
from kepler_edge.keys import Trust
from kepler_edge.outputs import Rendered, Renderer, Value
from kepler_edge.package import Manifest, open_package, worst_difference
from kepler_edge.preparation import RowWriter
from kepler_edge.reading import Reading
from kepler_edge.release_doc import Binding
from kepler_edge.windows import Window, Windows

_ERRORS_ONLY = 3
_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}


@dataclass(frozen=True, slots=True)
class Scored:
    """One prediction.

    Attributes
    ----------
    out
        Outputs named as `keplerpredict` names them; all None for a reading that gets no answer.
    alert
        Whether a threshold was reached.
    lat_us
        Microseconds from reading to score, features included.
    nan
        Whether the model gave a number that is none.
    """

    out: dict[str, Value]
    alert: bool
    lat_us: float
    nan: bool = False


class LoadedModel:
    """A checked model in a session of its own: one thread, no spinning. Scores for one caller at a time.

    Attributes
    ----------
    name, version, sha8, release
        What stands in prediction records; ``release`` is empty for a model that came with the image.
    manifest
        What is known of it.
    """

    def __init__(
        self,
        manifest: Manifest,
        model: bytes,
        *,
        release: str = "",
        thresholds: Mapping[str, float] | None = None,
        windows: Sequence[Window] = (),
        bindings: Sequence[Binding] = (),
    ) -> None:
        self.manifest = manifest
        self.name = manifest.name
        self.version = manifest.version
        self.sha8 = manifest.sha8
        self.release = release
        self.bindings = tuple(bindings)
        self.windows = Windows(windows)
        self._session: Any = _session(model)
        self.names = [str(item.name) for item in self._session.get_outputs()]
        self._check_shape()
        self._writer = RowWriter(manifest.preparation, manifest.dtype)
        self._feed = {"x": self._writer.row}
        self._renderer = Renderer(manifest.outputs, self.names, thresholds or {})

    @classmethod
    def load(cls, folder: Path, trust: Trust, **options: Any) -> LoadedModel:
        """Check the package in ``folder`` and open it. Raises `Refused`, also where golden answers differ."""
        manifest, data = cls.read(folder, trust)
        model = cls(manifest, data, **options)
        model.check_golden()
        return model

    @staticmethod
    def read(folder: Path, trust: Trust) -> tuple[Manifest, bytes]:
        """Manifest and model of the package in ``folder``, checked and not run. Raises `Refused`."""
        return open_package(folder, trust)

    def score(self, readings: Mapping[str, object], *, source: str = "", at: float | None = None) -> Scored:
        """Score one reading.

        Parameters
        ----------
        readings
            Values by field. A field that is missing is treated as the preparation says.
        source
            Which machine, where windows are kept per machine.
        at
            When it was read, seconds on any clock that rises; None: now.

        Raises
        ------
        InvalidInput
            A value is text where the model reads numbers.
        KeplerError
            ONNX Runtime fails.
        """
        began = time.perf_counter_ns()
        if self.windows:
            readings = self.windows.update(source, readings, time.monotonic() if at is None else at)
        rendered = self._renderer.blank
        if self._writer.write(readings):
            rendered = self.run_row()
            out = rendered.out
        else:
            out = dict(rendered.out)
        return Scored(out, rendered.alert, (time.perf_counter_ns() - began) / 1000, rendered.nan)

    def run_row(self) -> Rendered:
        """Score the row as it stands prepared."""
        try:
            raw = self._session.run(self.names, self._feed)
        except Exception as error:  # onnxruntime's own classes, none of them public
            raise KeplerError("The model fails in running", cause=_first_line(error)) from error
        return self._renderer.render(raw)

    def alerts(self, out: Mapping[str, Value]) -> bool:
        """Whether outputs that came from elsewhere are an alert of this model."""
        return self._renderer.alerts(out)

    def takes(self, reading: Reading) -> tuple[str, Mapping[str, object]] | None:
        """Source and fields of ``reading`` for this model, or None when it is not bound to it.

        Without bindings it takes every reading, each input a source of its own.
        """
        if not self.bindings:
            return reading.source, reading.fields
        for binding in self.bindings:
            if binding.takes(reading.source):
                fields: Mapping[str, object] = reading.fields
                if binding.fields:
                    fields = {binding.fields.get(name, name): value for name, value in fields.items()}
                key = reading.fields.get(binding.key) if binding.key else None
                return (reading.source if key is None else str(key)[:500]), fields
        return None

    def adopt(self, other: LoadedModel) -> None:
        """Go on with the windows of ``other``, which scores no more, where they are the same."""
        if self.windows.windows == other.windows.windows:
            self.windows = other.windows

    def raw(self, x: Any) -> dict[str, Any]:
        """Arrays for a prepared matrix (n_rows, n_columns)."""
        rows = np.ascontiguousarray(x, dtype=self.manifest.dtype)
        return dict(zip(self.names, self._session.run(self.names, {"x": rows}), strict=True))

    def golden_matrix(self) -> Any:
        """The manifest's prepared rows in the model's own type, (n_rows, n_columns)."""
        rows = np.asarray(self.manifest.golden.inputs, np.float64).reshape(
            -1, self.manifest.preparation.width
        )
        return rows.astype(self.manifest.dtype)

    def check_golden(self) -> None:
        """Raise `Refused` unless the recorded answers come again."""
        golden = self.manifest.golden
        if not golden.inputs:
            return
        try:
            raw = self.raw(self.golden_matrix())
        except Exception as error:  # onnxruntime's own classes, none of them public
            raise Refused("The model fails in running", cause=_first_line(error)) from error
        for key, values in raw.items():
            if values.dtype.kind == "f" and np.isnan(values).any() and not _has_gap(golden.outputs.get(key)):
                raise Refused(f"The model gives NaN in {key!r} for its recorded rows")
        worst = worst_difference(golden, raw)
        if not worst <= golden.tolerance:
            raise Refused(
                "The model does not give the answers it gave when it was trained",
                cause=f"They differ by {worst:.3g}: its file or this device computes otherwise",
                fix="Deploy another version, or train it again.",
            )

    def put_row(self, values: Any) -> None:
        """Put prepared numbers (n_columns,) where `run_row` reads them."""
        self._writer.row[0] = values

    def _check_shape(self) -> None:
        given = self._session.get_inputs()
        manifest = self.manifest
        shape: Sequence[object] = given[0].shape if len(given) == 1 and given[0].name == "x" else ()
        kind = _TYPES.get(given[0].type) if given else ""
        if len(shape) != 2 or shape[1] != manifest.preparation.width or kind != manifest.dtype:
            raise Refused(
                f"The model does not read the {manifest.preparation.width} columns of its preparation as {manifest.dtype}",
                fix="Deploy a version whose file belongs to its manifest.",
            )


def _has_gap(rows: Sequence[Sequence[float]] | None) -> bool:
    return any(cell != cell for row in rows or () for cell in row)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _session(model: bytes) -> Any:
    ort: Any = importlib.import_module("onnxruntime")  # 20 MB and 50 ms: not before there is a model
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, none of them public
        raise Refused("The ONNX model cannot be loaded", cause=_first_line(error)) from error
