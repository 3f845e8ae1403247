"""A model version as the registry knows it."""

from __future__ import annotations

from dataclasses import dataclass, field

from kepler.core.names import ModelName


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One immutable version. ``folder`` is where its files lie (manifest.json, model.onnx, ...)."""

    name: ModelName
    version: int
    folder: str
    manifest_sha256: str
    aliases: tuple[str, ...] = ()
    algorithm: str = ""
    task: str = ""
    target: str = ""
    owner: str = ""
    created_at: float = 0.0
    job_id: str = ""
    run_id: str = ""
    format: str = ""
    size_bytes: int = 0
    rows: int = 0
    metrics: tuple[tuple[str, float], ...] = ()
    tags: dict[str, str] = field(default_factory=dict[str, str])
    params: dict[str, str] = field(default_factory=dict[str, str])
    fields: tuple[str, ...] = ()  # what it reads; the first of them where there are many

    @property
    def full_name(self) -> str:
        return f"{self.name}@{self.version}"
