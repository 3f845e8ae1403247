"""Forests summed column by column against the slow, obvious walk."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from kepler.adapters.formats.ensemble_cut import cut_ensemble
from kepler.adapters.formats.forest import LEQ, LT, Forest
from kepler.adapters.formats.graph import GraphWriter
from kepler.adapters.formats.onnx_scorer import OnnxScorer
from kepler.adapters.formats.threshold_codes import ThresholdCodes
from kepler.adapters.formats.tree_columns import MAX_LEAVES

FEATURES = 3
_NUMBER = st.floats(allow_nan=False, width=32)
_SCALES = st.sampled_from([0.01, 0.1, 1.0, 1e4])


def _random_tree(rng: np.random.Generator, n_splits: int, scale: float) -> dict[str, npt.NDArray[Any]]:
    """A tree grown by splitting a random leaf each time: as crooked as boosted trees are."""
    left, right = [-1], [-1]
    for _ in range(n_splits):
        leaves = [node for node, child in enumerate(left) if child < 0]
        node = int(rng.choice(leaves))
        left[node], right[node] = len(left), len(left) + 1
        left += [-1, -1]
        right += [-1, -1]
    n = len(left)
    return {
        "feature": rng.integers(0, FEATURES, n),
        # Few distinct values, so that rows lie exactly on splits.
        "split": np.round(rng.normal(size=n), 1) * scale,
        "left": np.array(left),
        "right": np.array(right),
        "missing_left": rng.random(n) < 0.5,
        "value": rng.normal(size=n),
    }


def _walk(tree: dict[str, npt.NDArray[Any]], row: npt.NDArray[np.float64], mode: int) -> float:
    node = 0
    while tree["left"][node] >= 0:
        value, split = row[tree["feature"][node]], tree["split"][node]
        went_left = tree["missing_left"][node] if np.isnan(value) else value <= split
        if mode == LT and not np.isnan(value):
            went_left = value < split
        node = tree["left" if went_left else "right"][node]
    return float(tree["value"][node])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n_splits=st.integers(1, 60), mode=st.sampled_from([LEQ, LT]),
    missing=st.booleans(), n_targets=st.integers(1, 3), scale=_SCALES,
)  # fmt: skip
def test_sums_are_those_of_the_walk(
    seed: int, n_splits: int, mode: int, missing: bool, n_targets: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    forest, trees = Forest(n_targets, mode=mode), []
    for number in range(4):
        tree = _random_tree(rng, n_splits, scale)
        trees.append((tree, number % n_targets))
        forest.add(*tree.values(), number % n_targets)
    graph = GraphWriter(FEATURES, "float64")
    graph.output("value", forest.write(graph), np.float64, n_targets)
    cut = cut_ensemble(graph.to_bytes())
    assert cut is not None
    rows = np.round(rng.normal(size=(64, FEATURES)), 1) * scale
    rows[:3, 0] = np.inf, -np.inf, 0.0
    if missing:
        rows[rng.random(rows.shape) < 0.2] = np.nan
    expected = np.zeros((len(rows), n_targets))
    for tree, target in trees:
        expected[:, target] += [_walk(tree, row, mode) for row in rows]
    np.testing.assert_allclose(cut.forest.sums(rows), expected, rtol=0, atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(
    thresholds=st.lists(_NUMBER, min_size=1, max_size=300),
    values=st.lists(_NUMBER, min_size=1, max_size=50),
    inclusive=st.booleans(),
)
def test_codes_count_the_thresholds_below(
    thresholds: list[float], values: list[float], inclusive: bool
) -> None:
    splits = np.unique(np.array(thresholds))
    rows = np.array([*values, *thresholds, np.inf, -np.inf])
    codes = ThresholdCodes(splits, inclusive=inclusive).of(rows)
    side: Any = "right" if inclusive else "left"
    np.testing.assert_array_equal(codes, np.searchsorted(splits, rows, side=side))


def test_codes_of_long_tails_and_crowds() -> None:
    rng = np.random.default_rng(0)
    for splits in (
        np.unique(np.exp(rng.normal(scale=6, size=250))),
        np.unique(rng.integers(0, 50, 40) + 1e9),
        np.unique(np.concatenate([rng.normal(size=100) * 1e-12, [1e12]])),
        np.array([-np.inf, 0.0, np.inf]),
        np.unique(rng.normal(size=1000)),
    ):
        coding = ThresholdCodes(splits, inclusive=False)
        rows = np.concatenate([splits, rng.choice(splits, 500) * rng.normal(1, 0.5, 500)])
        rows = rows[~np.isnan(rows)]
        np.testing.assert_array_equal(coding.of(rows), np.searchsorted(splits, rows))
        assert coding.of(rows).max() < coding.largest


def _scorer(n_splits: int, trees: int = 3) -> tuple[OnnxScorer, npt.NDArray[np.float64]]:
    rng = np.random.default_rng(7)
    forest = Forest(1)
    for _ in range(trees):
        forest.add(*_random_tree(rng, n_splits, 1.0).values())
    graph = GraphWriter(FEATURES, "float64")
    total = graph.flat(graph.op("Add", forest.write(graph), graph.column("x", 0)))
    graph.output("value", total, np.float64)
    return OnnxScorer(graph.to_bytes(), dtype="float64"), rng.normal(size=(2000, FEATURES))


def test_many_rows_answer_as_few_do_also_where_the_rest_of_the_graph_reads_the_row() -> None:
    scorer, rows = _scorer(20)
    many = scorer.score(rows)["value"]
    few = np.concatenate([scorer.score(rows[at : at + 50])["value"] for at in range(0, len(rows), 50)])
    np.testing.assert_allclose(many, few, rtol=0, atol=1e-12)


def test_trees_of_more_leaves_than_a_byte_counts_are_walked() -> None:
    for n_splits, cut in ((MAX_LEAVES - 1, True), (MAX_LEAVES, False)):
        scorer, rows = _scorer(n_splits, trees=1)
        assert (scorer._cut is not None) is cut
        assert len(scorer.score(rows)["value"]) == len(rows)


def test_splits_beyond_float32_are_checked_without_a_warning() -> None:
    forest = Forest(1)
    forest.add([0, 0, 0], [1e300, 0, 0], [1, -1, -1], [2, -1, -1], [True, False, False], [0, 1, 2])
    graph = GraphWriter(1, "float32")
    graph.output("value", graph.flat(forest.write(graph)), np.float64)
    scorer = OnnxScorer(graph.to_bytes(), dtype="float32")
    rows = np.array([[3.0], [np.inf], [np.nan]] * 10, np.float32)
    assert scorer.score(rows)["value"].tolist() == [1.0, 2.0, 1.0] * 10
