"""A release as the desired state names it: which version, from where, and how it is to be run and watched."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kepler_edge.checked import Section
from kepler_edge.errors import InvalidInput
from kepler_edge.package import FILE_NAME
from kepler_edge.windows import Window

ID = re.compile(r"[a-z0-9-]{1,64}")
MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
MAX_FILE_BYTES = 1 << 30
DEFAULT_RSS_MB = 256
DEFAULT_LATENCY_MS = 100.0
DEFAULT_RATE = 0.05  # of errors, and of scores that are no number


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A file of a release: what fetching it needs."""

    release: str
    url: str
    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Binding:
    """Where readings come from: an input's name or a topic filter, renamed ``fields``, the ``key`` of sources."""

    input: str
    fields: Mapping[str, str]
    key: str

    def takes(self, source: str) -> bool:
        """Whether it is about readings of ``source``, an input's name or an MQTT topic."""
        return self.input == source or _topic_fits(self.input.split("/"), source.split("/"))


def _topic_fits(wanted: list[str], topic: list[str]) -> bool:
    if wanted[-1] == "#" and len(topic) >= len(wanted) - 1:
        wanted, topic = wanted[:-1], topic[: len(wanted) - 1]
    return len(wanted) == len(topic) and all(a in ("+", b) for a, b in zip(wanted, topic, strict=True))


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the self-test."""

    max_rss_mb: int
    max_latency_ms: float
    min_agent: str


@dataclass(frozen=True, slots=True)
class Gates:
    """What ends a probation; ``max_drift`` 0 where drift is not judged."""

    max_error_rate: float
    max_nan_rate: float
    max_latency_ms: float
    max_drift: float


@dataclass(frozen=True, slots=True)
class Release:
    """One release. ``files`` are manifest, signature, and the model; ``text`` is the document as it is kept."""

    id: str
    model: str
    version: int
    files: tuple[ReleaseFile, ...]
    bindings: tuple[Binding, ...]
    windows: tuple[Window, ...]
    thresholds: Mapping[str, float]
    limits: Limits
    gates: Gates
    shadow_s: float
    probation_s: float
    expires: float
    allow_downgrade: bool
    text: str

    @property
    def sha256(self) -> str:
        """Of the document; another one under the same id is another release."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def manifest_sha256(self) -> str:
        return self.files[0].sha256

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @classmethod
    def of(cls, document: object) -> Release:
        """Read and check one of ``desired.doc.releases``. Raises `InvalidInput`."""
        section = Section(document, "The release")
        try:
            text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidInput("The release is no JSON", cause=str(error)[:200]) from error
        release_id, model = section.text("id"), section.text("model", max_chars=220)
        if not ID.fullmatch(release_id) or not MODEL.fullmatch(model):
            raise InvalidInput("The release's id or model is no legal name")
        url = section.text("url", "", max_chars=2000)
        if url and not url.startswith("https://"):
            raise InvalidInput("The release's url is not https")

        def read_file(item: Section) -> ReleaseFile:
            path, sha256 = item.text("path", max_chars=200), item.text("sha256", max_chars=64)
            size = item.integer("size", low=1, high=MAX_FILE_BYTES)
            item.done()
            if not FILE_NAME.fullmatch(path) or not re.fullmatch("[0-9a-f]{64}", sha256):
                raise InvalidInput(f"{item.where} is no file of a version")
            return ReleaseFile(release_id, url, path, sha256, size)

        files = [read_file(section.section("manifest")), read_file(section.section("signature"))]
        files += [read_file(item) for item in section.sections("files", max_items=10)]
        if len({file.path for file in files}) < len(files) or len(files) < 3:
            raise InvalidInput("The release names a file twice, or no model file")
        limits = _limits(section.optional("limits"))
        release = cls(
            id=release_id,
            model=model,
            version=section.integer("version", low=1),
            files=tuple(files),
            bindings=tuple(_binding(item) for item in section.sections("bindings", (), max_items=100)),
            windows=tuple(Window.of(item) for item in section.sections("windows", (), max_items=1_000)),
            thresholds=section.mapping("thresholds", lambda inner, key: inner.number(key), max_items=100),
            limits=limits,
            gates=_gates(section.optional("gates"), limits),
            shadow_s=section.number("shadow_s", 0.0, low=0, high=30 * 86_400),
            probation_s=section.number("probation_s", 300.0, low=0, high=30 * 86_400),
            expires=section.number("expires", 0.0, low=0),
            allow_downgrade=section.flag("allow_downgrade", False),
            text=text,
        )
        section.done()
        return release

    @classmethod
    def load(cls, text: str) -> Release:
        """The release of a kept document."""
        document: Any = json.loads(text)
        return cls.of(document)


def _binding(section: Section) -> Binding:
    binding = Binding(
        section.text("input", max_chars=1000),
        section.mapping("fields", lambda inner, key: inner.text(key, max_chars=500), max_items=1_000),
        section.text("key", "", max_chars=500),
    )
    section.done()
    return binding


def _limits(section: Section) -> Limits:
    limits = Limits(
        section.integer("max_rss_mb", DEFAULT_RSS_MB, low=1, high=65_536),
        section.number("max_latency_ms", DEFAULT_LATENCY_MS, low=1e-6),
        section.text("min_agent", "", max_chars=40),
    )
    section.done()
    return limits


def _gates(section: Section, limits: Limits) -> Gates:
    gates = Gates(
        section.number("max_error_rate", DEFAULT_RATE, low=0, high=1),
        section.number("max_nan_rate", DEFAULT_RATE, low=0, high=1),
        section.number("max_latency_ms", limits.max_latency_ms, low=1e-6),
        section.number("max_drift", 0.0, low=0),
    )
    section.done()
    return gates
