"""Parameters and summaries that trees and forests share."""

from __future__ import annotations

from typing import Any

from kepler.algorithms._fitting import Seeded
from kepler.algorithms._tables import class_label, importance_table, table
from kepler.core.algorithms import Run, SummaryTable, TrainingSet, param

SHOWN_DEPTH = 5


class TreeParams(Seeded):
    """How far a tree grows."""

    max_depth: int | None = param(None, "int", low=1, high=10_000, help="Most questions in a row.")
    min_samples_split: Any = param(2, "int|float", low=0, help="Fewest rows (or share) to split further.")
    min_samples_leaf: Any = param(1, "int|float", low=0, help="Fewest rows (or share) in a leaf.")
    min_weight_fraction_leaf: float = param(0.0, low=0.0, high=0.5, help="Least share of weight in a leaf.")
    max_leaf_nodes: int | None = param(None, "int", low=2, high=10_000_000, help="Most leaves.")
    min_impurity_decrease: float = param(0.0, low=0.0, help="Least gain of a split.")
    ccp_alpha: float = param(0.0, low=0.0, help="Strength of pruning after growth.")
    max_features: Any

    def tree_options(self, run: Run) -> dict[str, Any]:
        return {
            "max_depth": self.max_depth,
            "min_samples_split": self.min_samples_split,
            "min_samples_leaf": self.min_samples_leaf,
            "min_weight_fraction_leaf": self.min_weight_fraction_leaf,
            "max_leaf_nodes": self.max_leaf_nodes,
            "min_impurity_decrease": self.min_impurity_decrease,
            "random_state": self.seed_for(run),
        }

    def fields_per_split(self, auto: Any) -> Any:
        """``max_features`` with the ``auto`` of MLTK's day in today's terms."""
        return auto if self.max_features == "auto" else self.max_features


def tree_tables(
    data: TrainingSet, estimator: Any, class_index: tuple[int, ...] = (), depth: int = SHOWN_DEPTH
) -> dict[str, SummaryTable]:
    """Importances, and the tree as text down to ``depth``, one line a row."""
    from sklearn.tree import export_text

    names = [class_label(data, index) for index in class_index] or None
    text = export_text(estimator, feature_names=list(data.feature_names), class_names=names, max_depth=depth)
    importance = importance_table(data, estimator.feature_importances_)
    return {"default": table(("tree",), ([line] for line in text.splitlines())), "importance": importance}


def importance_tables(data: TrainingSet, importances: Any) -> dict[str, SummaryTable]:
    importance = importance_table(data, importances)
    return {"default": importance, "importance": importance}
