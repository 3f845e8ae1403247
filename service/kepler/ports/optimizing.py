"""Makes a version's graph cheaper to run on a gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from kepler.core.algorithms import Matrix
from kepler.core.manifest import Manifest
from kepler.core.optimization import Optimization


class EdgeOptimizer(Protocol):
    def optimize(
        self,
        manifest: Manifest,
        model: bytes,
        rows: Matrix,
        thresholds: Mapping[str, float],
        calibrated_on: str,
    ) -> Optimization:
        """Try every form on ``rows`` (n_rows, n_features), half to fit and half to check.

        ``thresholds`` are alerts by output, as deployments name them: a number at or above it is one.

        Raises `InvalidInput` when the graph can gain nothing, with the reason, or a threshold is about no output.
        """
        ...
