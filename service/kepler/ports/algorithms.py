"""The algorithms that can be trained, as use cases see the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from kepler.core.algorithms import AlgorithmInfo, Task


class Algorithms(Protocol):
    """Implemented by `kepler.registry`."""

    def find(self, name: str, task_hint: Task | None = None) -> AlgorithmInfo:
        """By name, alias or dotted scikit-learn name. Raises `InvalidInput` naming the nearest."""
        ...

    def check_params(self, info: AlgorithmInfo, raw: Mapping[str, str]) -> dict[str, Any]:
        """Typed values of the given parameters. Raises `InvalidInput` naming what is expected."""
        ...

    def all(self) -> tuple[AlgorithmInfo, ...]:
        """By name."""
        ...

    def available(self, info: AlgorithmInfo) -> bool:
        """Whether the libraries it needs are installed."""
        ...
