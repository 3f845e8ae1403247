"""The ``model`` section of a manifest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kepler.core.checked_json import Section
from kepler.core.errors import InvalidInput

DTYPES = ("float32", "float64")


@dataclass(frozen=True, slots=True)
class SavedModel:
    """Which files, in which format, and how well they agree with the estimator they came from.

    ``agreement`` is the largest difference between the native estimator and the file, relative to
    max(1, |value|), over training rows and the grid of DESIGN section 4. ``reason`` says why it is not ONNX.
    """

    format: str  # "onnx", "skops", "lightgbm", "xgboost", "catboost"
    files: tuple[str, ...]
    dtype: str
    outputs: tuple[str, ...]  # keys of RawScores it gives
    agreement: float = 0.0
    checked_rows: int = 0
    opset: int = 0
    reason: str = ""
    trusted_types: tuple[str, ...] = ()  # skops: the audited list
    extra: dict[str, str] = field(default_factory=dict[str, str])

    def to_json(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "files": list(self.files),
            "dtype": self.dtype,
            "outputs": list(self.outputs),
            "agreement": self.agreement,
            "checked_rows": self.checked_rows,
            "opset": self.opset,
            "reason": self.reason,
            "trusted_types": list(self.trusted_types),
            "extra": dict(self.extra),
        }

    @classmethod
    def from_json(cls, section: Section) -> SavedModel:
        saved = cls(
            format=section.text("format", max_chars=40),
            files=section.texts("files"),
            dtype=section.choice("dtype", DTYPES),
            outputs=section.texts("outputs"),
            agreement=section.number("agreement"),
            checked_rows=section.integer("checked_rows"),
            opset=section.integer("opset", high=10_000),
            reason=section.text("reason"),
            trusted_types=section.texts("trusted_types"),
            extra=section.text_map("extra", max_items=100),
        )
        section.done()
        for name in saved.files:
            if not name or name.startswith(("/", ".")) or "\\" in name or ".." in name.split("/"):
                raise InvalidInput(f"{section.where}: {name[:100]!r} is not a file beside the manifest")
        return saved
