"""ONNX graphs of LightGBM, XGBoost and CatBoost, from each library's own description of its trees."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from kepler.adapters.formats.forest import LEQ, LT, Forest
from kepler.adapters.formats.graph import GraphWriter
from kepler.adapters.formats.writers import NotConvertible, Written
from kepler.core.algorithms import Fitted, Task

# LightGBM include/LightGBM/tree.h: decision_type holds these bits
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_ZERO = float(np.float32(1e-35))  # kZeroThreshold of include/LightGBM/meta.h
_MISSING_NONE, _MISSING_ZERO = 0, 1
_EXP_OBJECTIVES = frozenset({"poisson", "gamma", "tweedie", "count:poisson", "reg:gamma", "reg:tweedie"})
_PLAIN_OBJECTIVES = frozenset(
    {"regression", "regression_l1", "huber", "fair", "quantile", "mape"}
    | {"reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:quantileerror"}
)


def lightgbm(fitted: Fitted, graph: GraphWriter) -> Written:
    header, trees = _lightgbm_text(fitted.estimator.booster_.model_to_string())
    objective, *settings = header["objective"].split()
    per_round = int(header["num_tree_per_iteration"])
    if "average_output" in header or "sqrt" in settings:
        raise NotConvertible(
            f"LightGBM's {objective} with {settings or 'averaged output'} has no exact ONNX form"
        )
    forest = Forest(per_round, mode=LEQ)
    for number, tree in enumerate(trees):
        _add_lightgbm(forest, tree, number % per_round)
    raw = forest.write(graph)
    sigmoid = next((float(item.partition(":")[2]) for item in settings if item.startswith("sigmoid:")), 1.0)
    if sigmoid != 1.0:
        raw = graph.op("Mul", raw, graph.constant([[sigmoid]]))
    return _outputs(fitted, graph, raw, objective, forest)


def _lightgbm_text(text: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Header and trees of a model text as ``key=value`` lines."""
    head, *blocks = text.partition("\nend of trees")[0].split("\nTree=")
    return _pairs(head), [_pairs(block.partition("\n")[2]) for block in blocks]


def _pairs(block: str) -> dict[str, str]:
    return {key: value for key, _, value in (line.partition("=") for line in block.splitlines()) if key}


def _add_lightgbm(forest: Forest, tree: dict[str, str], target: int) -> None:
    leaves = np.array(tree["leaf_value"].split(), dtype=np.float64)
    if tree.get("is_linear", "0") != "0" or tree.get("num_cat", "0") != "0":
        raise NotConvertible("linear leaves and splits on categories have no exact ONNX form")
    if len(leaves) == 1:
        forest.add([0], [0.0], [-1], [-1], [False], leaves, target)
        return
    kinds = np.array(tree["decision_type"].split(), dtype=np.int64)
    missing = (kinds >> 2) & 3
    if (kinds & _CATEGORICAL).any() or (missing == _MISSING_ZERO).any():
        raise NotConvertible("splits on categories and zeros taken as missing have no exact ONNX form")
    split = np.array(tree["threshold"].split(), dtype=np.float64)
    # Values within the zero threshold, its ends included, act as 0: all of them fall on 0's side.
    split = np.where((split >= -_ZERO) & (split < 0.0), np.nextafter(-_ZERO, -np.inf), split)
    split = np.where((split >= 0.0) & (split < _ZERO), _ZERO, split)
    # Where training met no missing value, LightGBM reads one as 0.
    left_if_missing = np.where(missing == _MISSING_NONE, split >= 0.0, (kinds & _DEFAULT_LEFT) != 0)
    inner, n_leaves = len(split), len(leaves)

    def place(column: str) -> Any:
        child = np.array(tree[column].split(), dtype=np.int64)
        return np.where(child >= 0, child, inner + ~child)

    ends = np.full(n_leaves, -1)
    zeros = np.zeros(n_leaves)
    forest.add(
        np.concatenate([np.array(tree["split_feature"].split(), dtype=np.int64), zeros.astype(np.int64)]),
        np.concatenate([split, zeros]),
        np.concatenate([place("left_child"), ends]),
        np.concatenate([place("right_child"), ends]),
        np.concatenate([left_if_missing, zeros.astype(np.bool_)]),
        np.concatenate([np.zeros(inner), leaves]),
        target,
    )


def xgboost(fitted: Fitted, graph: GraphWriter) -> Written:
    learner = json.loads(bytes(fitted.estimator.get_booster().save_raw("json")))["learner"]
    booster = learner["gradient_booster"]
    if booster["name"] != "gbtree":
        raise NotConvertible(f"XGBoost's {booster['name']} has no exact ONNX form")
    objective = learner["objective"]["name"]
    start = np.array(json.loads(learner["learner_model_param"]["base_score"]), dtype=np.float64).reshape(-1)
    if objective == "binary:logistic":
        start = np.log(start / (1.0 - start))
    elif objective in _EXP_OBJECTIVES:
        start = np.log(start)
    n_targets = max(1, int(learner["learner_model_param"]["num_class"]))
    forest = Forest(n_targets, mode=LT, single=True)
    for target, value in enumerate(np.broadcast_to(start, (n_targets,))):
        # XGBoost starts from it and adds tree after tree in float32: so does this, for equal rounding.
        forest.add([0], [0.0], [-1], [-1], [False], [value], target)
    for tree, target in zip(booster["model"]["trees"], booster["model"]["tree_info"], strict=True):
        if any(tree["split_type"]):
            raise NotConvertible("splits on categories have no exact ONNX form")
        # XGBoost computes in float32; its JSON holds the shortest text of each such number.
        values = np.array(tree["split_conditions"], dtype=np.float32).astype(np.float64)
        left, right = np.array(tree["left_children"]), np.array(tree["right_children"])
        forest.add(
            tree["split_indices"], values, left, right, np.array(tree["default_left"]) != 0, values, target
        )
    return _outputs(fitted, graph, forest.write(graph), objective, forest)


def catboost(fitted: Fitted, graph: GraphWriter) -> Written:
    if fitted.estimator.get_cat_feature_indices():
        raise NotConvertible("CatBoost's categories have no exact ONNX form")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        fitted.estimator.save_model(str(path), format="json")
        model = json.loads(path.read_text())
    if "oblivious_trees" not in model:
        raise NotConvertible("only CatBoost's symmetric trees have an exact ONNX form here")
    scale, bias = model["scale_and_bias"]
    treatment = {
        item["feature_index"]: (item["flat_feature_index"], item.get("nan_value_treatment", "AsIs"))
        for item in model["features_info"]["float_features"]
    }
    forest = Forest(len(bias), mode=LEQ)
    for tree in model["oblivious_trees"]:
        _add_oblivious(forest, tree, treatment, scale)
    raw = graph.op("Add", forest.write(graph), graph.constant(np.reshape(bias, (1, -1))))
    return _outputs(fitted, graph, raw, "", forest)


def _add_oblivious(
    forest: Forest, tree: dict[str, Any], treatment: dict[int, tuple[int, str]], scale: float
) -> None:
    """A symmetric tree written out: every node of a depth asks the same, the last split first.

    Split i sets bit i of the leaf's number when the value is above its border.
    """
    splits = tree.get("splits") or []
    depth = len(splits)
    if any(item["split_type"] != "FloatFeature" for item in splits):
        raise NotConvertible("splits on categories have no exact ONNX form")
    n_inner, n_nodes = 2**depth - 1, 2 ** (depth + 1) - 1
    feature, border = np.zeros(n_nodes, np.int64), np.zeros(n_nodes)
    missing = np.zeros(n_nodes, np.bool_)
    left, right = np.full(n_nodes, -1), np.full(n_nodes, -1)
    for level, item in enumerate(reversed(splits)):
        nodes = slice(2**level - 1, 2 ** (level + 1) - 1)
        flat, how = treatment[item["float_feature_index"]]
        feature[nodes], missing[nodes] = flat, how != "AsTrue"
        border[nodes] = np.float64(np.float32(item["border"]))
    place = np.arange(n_inner)
    left[:n_inner], right[:n_inner] = 2 * place + 1, 2 * place + 2
    leaves = np.array(tree["leaf_values"], dtype=np.float64).reshape(2**depth, -1) * scale
    values = np.zeros((n_nodes, leaves.shape[1]))
    values[n_inner:] = leaves
    forest.add(feature, border, left, right, missing, values[:, 0] if forest.n_targets == 1 else values)


def _outputs(fitted: Fitted, graph: GraphWriter, raw: str, objective: str, forest: Forest) -> Written:
    if fitted.task is Task.REGRESSION:
        if objective in _EXP_OBJECTIVES:
            raw = graph.op("Exp", raw)
        elif objective and objective not in _PLAIN_OBJECTIVES:
            raise NotConvertible(f"the objective {objective} has no exact ONNX form here")
        graph.output("value", graph.flat(raw), np.float64)
    elif forest.n_targets == 1:
        graph.binary(raw, fitted.class_index, fitted.n_classes)
    else:
        label = graph.op("ArgMax", raw, axis=1, keepdims=0)
        graph.classes(label, graph.op("Softmax", raw, axis=1), fitted.class_index, fitted.n_classes)
    return Written(graph.to_bytes(), forest.thresholds())
