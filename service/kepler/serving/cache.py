"""Loaded model versions, kept warm within a bound of memory.

One load per version however many searches ask at once; the least recently asked goes first. A stream that
holds a model keeps it alive after it has left the cache.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from kepler.core.versions import VersionRecord
from kepler.ports.serving import LoadedModel, ModelLoader

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the start, and what is held now."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    failures: int = 0
    models: int = 0
    bytes: int = 0


class ModelCache:
    """Gives loaded models by version; all methods are safe to call from several threads.

    Parameters
    ----------
    max_bytes
        Bound of the models' own `size_bytes`. A model larger than it is served and not kept.
    on_change
        Called with the new `CacheStats` after each change, outside the lock; for metrics.
    """

    def __init__(
        self, loader: ModelLoader, max_bytes: int, on_change: Callable[[CacheStats], None] | None = None
    ) -> None:
        self._loader = loader
        self._max_bytes = max_bytes
        self._on_change = on_change
        self._lock = threading.Lock()
        self._models: OrderedDict[Key, LoadedModel] = OrderedDict()
        self._loading: dict[Key, Future[LoadedModel]] = {}
        self._stats = CacheStats()

    @property
    def stats(self) -> CacheStats:
        with self._lock:
            return self._stats

    def get(self, version: VersionRecord) -> LoadedModel:
        """The model of ``version``. Raises what its loading raises; a failed load is tried anew next time."""
        key = (version.full_name, version.manifest_sha256)
        with self._lock:
            model = self._models.get(key)
            if model is not None:
                self._models.move_to_end(key)
                self._stats = replace(self._stats, hits=self._stats.hits + 1)
                return model
            waiting = self._loading.get(key)
            future: Future[LoadedModel] = Future() if waiting is None else waiting
            if waiting is None:
                self._loading[key] = future
                self._stats = replace(self._stats, misses=self._stats.misses + 1)
            else:
                self._stats = replace(self._stats, hits=self._stats.hits + 1)
        return self._load(key, version, future) if waiting is None else future.result()

    def recall(self, version: VersionRecord) -> LoadedModel | None:
        """The model of ``version`` if it is warm, else None; reads nothing from disk."""
        key = (version.full_name, version.manifest_sha256)
        with self._lock:
            model = self._models.get(key)
            if model is not None:
                self._models.move_to_end(key)
                self._stats = replace(self._stats, hits=self._stats.hits + 1)
            return model

    def drop(self, version: VersionRecord) -> None:
        """Forget a version that was deleted."""
        with self._lock:
            self._models.pop((version.full_name, version.manifest_sha256), None)
            self._count()
        self._tell()

    def _load(self, key: Key, version: VersionRecord, mine: Future[LoadedModel]) -> LoadedModel:
        try:
            model = self._loader.load(Path(version.folder), version.full_name)
        except BaseException as error:
            with self._lock:
                del self._loading[key]
                self._stats = replace(self._stats, failures=self._stats.failures + 1)
            mine.set_exception(error)
            self._tell()
            raise
        with self._lock:
            del self._loading[key]
            self._keep(key, model)
        mine.set_result(model)
        self._tell()
        return model

    def _keep(self, key: Key, model: LoadedModel) -> None:
        if model.size_bytes <= self._max_bytes:
            self._models[key] = model
            held = sum(item.size_bytes for item in self._models.values())
            while held > self._max_bytes:
                _, oldest = self._models.popitem(last=False)
                held -= oldest.size_bytes
                self._stats = replace(self._stats, evictions=self._stats.evictions + 1)
        self._count()

    def _count(self) -> None:
        held = sum(item.size_bytes for item in self._models.values())
        self._stats = replace(self._stats, models=len(self._models), bytes=held)

    def _tell(self) -> None:
        if self._on_change is not None:
            self._on_change(self.stats)
