"""Warm models within a bound of memory."""

import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from kepler.core.errors import Conflict
from kepler.core.names import ModelName
from kepler.core.versions import VersionRecord
from kepler.serving.cache import CacheStats, ModelCache


@dataclass
class Model:
    full_name: str
    size_bytes: int


class Loader:
    def __init__(self, size=10):
        self.loads = []
        self.size = size
        self.fail = False
        self.gate = None

    def load(self, folder, full_name):
        self.loads.append((folder, full_name))
        if self.gate is not None:
            self.gate.wait(5)
        if self.fail:
            raise Conflict("damaged")
        return Model(full_name, self.size)


def version(number, sha="a"):
    return VersionRecord(ModelName("app", "search", "m"), number, f"/models/{number}", sha)


def test_loads_once_and_counts():
    told = []
    loader = Loader()
    cache = ModelCache(loader, 100, told.append)
    first = cache.get(version(1))
    assert cache.get(version(1)) is first
    assert loader.loads == [(Path("/models/1"), "app.search/m@1")]
    assert cache.stats == CacheStats(hits=1, misses=1, models=1, bytes=10)
    assert told[-1].models == 1


def test_recalling_loads_nothing_and_counts_as_a_use():
    loader = Loader()
    cache = ModelCache(loader, 20)
    assert cache.recall(version(1)) is None
    assert loader.loads == []
    first = cache.get(version(1))
    cache.get(version(2))
    assert cache.recall(version(1)) is first
    assert cache.recall(version(1, sha="b")) is None
    assert cache.stats.hits == 1
    cache.get(version(3))
    assert cache.recall(version(2)) is None, "the least recently asked went"
    assert cache.recall(version(1)) is first


def test_least_recently_asked_goes_first():
    loader = Loader()
    cache = ModelCache(loader, 20)
    cache.get(version(1))
    cache.get(version(2))
    cache.get(version(1))
    cache.get(version(3))
    assert cache.stats.evictions == 1
    assert cache.stats.bytes == 20
    cache.get(version(1))
    assert len(loader.loads) == 3
    cache.get(version(2))
    assert len(loader.loads) == 4


def test_a_model_larger_than_the_bound_is_served_and_not_kept():
    loader = Loader(size=101)
    cache = ModelCache(loader, 100)
    assert cache.get(version(1)).size_bytes == 101
    assert cache.stats.models == 0
    cache.get(version(1))
    assert len(loader.loads) == 2


def test_another_manifest_is_another_model_and_drop_forgets():
    loader = Loader()
    cache = ModelCache(loader, 100)
    cache.get(version(1, "a"))
    cache.get(version(1, "b"))
    assert len(loader.loads) == 2
    cache.drop(version(1, "a"))
    cache.drop(version(9))
    assert cache.stats.models == 1


def test_many_callers_one_load():
    loader = Loader()
    loader.gate = threading.Event()
    cache = ModelCache(loader, 100)
    got = []
    callers = [threading.Thread(target=lambda: got.append(cache.get(version(1)))) for _ in range(8)]
    for caller in callers:
        caller.start()
    while not loader.loads:
        pass
    loader.gate.set()
    for caller in callers:
        caller.join(5)
    assert len(loader.loads) == 1
    assert len({id(model) for model in got}) == 1
    assert len(got) == 8
    assert cache.stats.hits + cache.stats.misses == 8


def test_a_failed_load_fails_all_that_wait_and_is_tried_anew():
    loader = Loader()
    loader.fail = True
    loader.gate = threading.Event()
    cache = ModelCache(loader, 100)
    errors = []

    def ask():
        try:
            cache.get(version(1))
        except Conflict as error:
            errors.append(error)

    callers = [threading.Thread(target=ask) for _ in range(3)]
    for caller in callers:
        caller.start()
    while cache.stats.hits + cache.stats.misses < 3:
        pass
    loader.gate.set()
    for caller in callers:
        caller.join(5)
    assert len(errors) == 3
    assert cache.stats.failures == 1
    loader.fail = False
    assert cache.get(version(1)).full_name == "app.search/m@1"
    with pytest.raises(Conflict):
        raise errors[0]
