"""Finds algorithms (and, by the same walk, any other plugin): our folder first, then entry points.

A plugin of ours that fails to import is our bug and raises. A third party's is listed as broken with its
reason, and everything else goes on working. Nothing here imports a machine-learning library; the
algorithms do that inside `fit`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TypeVar

from kepler.core.algorithms import Algorithm, AlgorithmInfo, Task, declared_by
from kepler.core.errors import Conflict, InvalidInput, KeplerError, nearest
from kepler.parameters import check_params
from kepler.ports.deploy import DeployTarget, TargetContext, TargetInfo, declared_targets

T = TypeVar("T")
ALGORITHMS = "kepler.algorithms"
TARGETS = "kepler.targets"
SKLEARN = "sklearn."


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A third party's plugin that could not be loaded, and why."""

    name: str
    origin: str
    reason: str


def discover(
    package: str, group: str, declared: Callable[[type], Iterable[T]]
) -> tuple[list[T], list[BrokenPlugin]]:
    """Everything ``declared`` finds on classes in the modules of ``package`` and behind the entry points.

    Modules whose name begins with an underscore are shared code and not walked.
    """
    found: list[T] = []
    broken: list[BrokenPlugin] = []
    parent = importlib.import_module(package)
    for module in pkgutil.iter_modules(parent.__path__):
        if not module.name.startswith("_"):
            found += _in_module(importlib.import_module(f"{package}.{module.name}"), declared)
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        try:
            found += _behind(point, declared)
        except Exception as error:  # whatever a stranger's module raises, ours must go on
            broken.append(BrokenPlugin(point.name, point.value, f"{type(error).__name__}: {error}"))
    return found, broken


def _in_module(module: ModuleType, declared: Callable[[type], Iterable[T]]) -> list[T]:
    """Only classes defined in ``module`` itself count, else an import would register a class twice."""
    found: list[T] = []
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__:
            found += declared(value)
    return found


def _behind(point: EntryPoint, declared: Callable[[type], Iterable[T]]) -> list[T]:
    loaded: object = point.load()
    if isinstance(loaded, ModuleType):
        found = _in_module(loaded, declared)
    else:
        found = list(declared(loaded)) if isinstance(loaded, type) else []
    if not found:
        raise TypeError("it declares no plugin; decorate the class with @algorithm or @target")
    return found


class Registry:
    """Algorithms by name and alias, in any case.

    A name belongs to one algorithm. An alias may be shared by algorithms of different tasks (``lightgbm``
    is the classifier or the regressor): then the task of the target decides.
    """

    def __init__(self, infos: Iterable[AlgorithmInfo], broken: Iterable[BrokenPlugin] = ()) -> None:
        self.broken: tuple[BrokenPlugin, ...] = tuple(broken)
        self._by_name: dict[str, AlgorithmInfo] = {}
        self._by_alias: dict[str, list[AlgorithmInfo]] = {}
        for info in infos:
            self._add(info)

    def all(self) -> tuple[AlgorithmInfo, ...]:
        """Every registered algorithm, by name."""
        return tuple(sorted(self._by_name.values(), key=lambda info: info.name.lower()))

    def find(self, name: str, task_hint: Task | None = None) -> AlgorithmInfo:
        """The algorithm meant by ``name``: a name, an alias, or a scikit-learn class by its dotted name.

        Raises `InvalidInput` for an unknown name (with the three nearest) and for an alias that several
        algorithms share while ``task_hint`` doesn't decide.
        """
        folded = name.strip().lower()
        if folded.startswith(SKLEARN):
            from kepler.algorithms._dotted import dotted_info

            return dotted_info(name.strip())
        if folded in self._by_name:
            return self._by_name[folded]
        hits = self._by_alias.get(folded, [])
        if len(hits) > 1 and task_hint is not None:
            hits = [info for info in hits if info.task is task_hint]
        if len(hits) == 1:
            return hits[0]
        if hits or folded in self._by_alias:
            known = [info.name for info in self._by_alias[folded]]
            raise InvalidInput(
                f"{name[:100]!r} may mean {' or '.join(known)}", fix="Write which one is meant."
            )
        raise self._unknown(name)

    def check_params(self, info: AlgorithmInfo, raw: Mapping[str, str]) -> dict[str, Any]:
        """Typed values for the parameters in ``raw``; see `kepler.parameters.check_params`."""
        return check_params(info, raw)

    def create(self, info: AlgorithmInfo, values: Mapping[str, Any]) -> Algorithm:
        """An instance of ``info`` that carries ``values`` and the defaults of the rest as attributes."""
        unknown = set(values) - set(info.params)
        if unknown:
            raise InvalidInput(f"{info.name} has no parameter {sorted(unknown)[0]!r}")
        instance = info.factory()
        for name, param in info.params.items():
            setattr(instance, name, values.get(name, param.default))
        return instance

    def available(self, info: AlgorithmInfo) -> bool:
        """Whether the library it names in its class attribute ``library`` is installed; not imported for that."""
        library: str = getattr(info.factory, "library", "")
        return not library or find_spec(library) is not None

    def _unknown(self, name: str) -> KeplerError:
        known = [info.name for info in self._by_name.values()] + list(self._by_alias)
        close: list[str] = []
        for hit in nearest(name[:100], known, 9):
            info = self._by_name.get(hit.lower()) or self._by_alias[hit][0]
            if info.name not in close:
                close.append(info.name)
        broken = next((item for item in self.broken if item.name.lower() == name.strip().lower()), None)
        return InvalidInput(
            f"Unknown algorithm {name[:100]!r}",
            cause=f"Its plugin failed to load: {broken.reason}" if broken else "",
            fix=f"The nearest are {', '.join(close[:3])}; `kepler algorithms` lists all."
            if close
            else "No algorithm is registered.",
        )

    def _add(self, info: AlgorithmInfo) -> None:
        key = info.name.lower()
        for other in [self._by_name.get(key), *self._by_alias.get(key, ())]:
            if other is not None:
                raise _clash(info.name, other, info)
        for alias in info.aliases:
            folded = alias.lower()
            shared = self._by_alias.get(folded, [])
            taken = self._by_name.get(folded) or next((o for o in shared if o.task is info.task), None)
            if taken is not None:
                raise _clash(alias, taken, info)
        self._by_name[key] = info
        for alias in info.aliases:
            self._by_alias.setdefault(alias.lower(), []).append(info)


def _clash(name: str, first: AlgorithmInfo, second: AlgorithmInfo) -> Conflict:
    return Conflict(
        f"Two algorithms are called {name!r}: {first.origin}.{first.factory.__name__} "
        f"and {second.origin}.{second.factory.__name__}",
        fix="Rename one of them or uninstall its package.",
    )


def load_registry(group: str = ALGORITHMS) -> Registry:
    """A registry of everything installed now.

    A third party's plugin whose name is taken is an error naming both, as it would decide silently
    which code a search runs.
    """
    infos, broken = discover("kepler.algorithms", group, declared_by)
    return Registry(infos, broken)


@lru_cache(maxsize=1)
def default_registry() -> Registry:
    """The registry of this process, loaded once."""
    return load_registry()


class Targets:
    """Deploy targets by name and alias, in any case; each is made once, when it is first asked for."""

    def __init__(
        self, infos: Iterable[TargetInfo], context: TargetContext, broken: Iterable[BrokenPlugin] = ()
    ) -> None:
        self.broken: tuple[BrokenPlugin, ...] = tuple(broken)
        self._context = context
        self._made: dict[str, DeployTarget] = {}
        self._infos: dict[str, TargetInfo] = {}
        self._by_word: dict[str, TargetInfo] = {}
        for info in infos:
            for word in (info.name, *info.aliases):
                other = self._by_word.setdefault(word.lower(), info)
                if other is not info:
                    raise Conflict(
                        f"Two deploy targets are called {word!r}: {other.origin}.{other.factory.__name__} "
                        f"and {info.origin}.{info.factory.__name__}",
                        fix="Rename one of them or uninstall its package.",
                    )
            self._infos[info.name] = info

    def all(self) -> tuple[TargetInfo, ...]:
        """Every registered target, by name."""
        return tuple(sorted(self._infos.values(), key=lambda info: info.name))

    def info(self, name: str) -> TargetInfo:
        """The target meant by ``name``. Raises `InvalidInput` that lists the known ones."""
        found = self._by_word.get(name.strip().lower())
        if found is None:
            failed = next((item for item in self.broken if item.name.lower() == name.strip().lower()), None)
            raise InvalidInput(
                f"Unknown deploy target {name[:60]!r}",
                cause=f"Its plugin failed to load: {failed.reason}" if failed else "",
                fix=f"Use one of {', '.join(info.name for info in self.all())}.",
            )
        return found

    def get(self, name: str) -> DeployTarget:
        """The target itself."""
        info = self.info(name)
        if info.name not in self._made:
            self._made[info.name] = info.factory(self._context)
        return self._made[info.name]


def load_targets(context: TargetContext, group: str = TARGETS) -> Targets:
    """The targets installed now."""
    infos, broken = discover("kepler.targets", group, declared_targets)
    return Targets(infos, context, broken)
