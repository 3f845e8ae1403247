"""A small manifest to work with, and a reader of JSON Schemas that knows what ours use."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np

from kepler.core.algorithms import SummaryTable, Task
from kepler.core.golden import GoldenVectors
from kepler.core.manifest import FileEntry, Manifest, Origin
from kepler.core.outputs import OutputPlan
from kepler.core.preparation import CodesFeature, NumberFeature, OneHotFeature, Preparation, TargetFeature
from kepler.core.profile import FieldProfile
from kepler.core.saved import SavedModel
from kepler.core.training import SearchContext


def make_manifest(**changes: Any) -> Manifest:
    """A classifier of two classes on one number and one text field; ``changes`` replace its fields."""
    raw = {"label": np.array([1]), "probabilities": np.array([[0.25, 0.75]])}
    manifest = Manifest(
        task=Task.CLASSIFICATION,
        algorithm="LogisticRegression",
        params={"C": 1.0, "solver": None, "layers": [1, 2]},
        target="y",
        preparation=Preparation("drop", (NumberFeature("a"), OneHotFeature("c", ("x", "z")))),
        outputs=OutputPlan.of(
            Task.CLASSIFICATION,
            algorithm="LogisticRegression",
            params={},
            raw=tuple(raw),
            target="y",
            labels=("0", "1"),
        ),
        model=SavedModel("onnx", ("model.onnx",), "float64", tuple(raw), 1e-9, 100, 17, extra={"k": "v"}),
        golden=GoldenVectors.of(np.array([[1.5, 1.0, 0.0]]), raw),
        profile={
            "a": FieldProfile("number", 4, 1, 1.0, 0.5, 0.0, 2.0, (0.1, 0.2)),
            "c": FieldProfile("text", 4, 0, distinct=2, top=(("x", 3), ("z", 1))),
        },
        metrics=(("accuracy", 0.9),),
        summary={"default": SummaryTable(("field", "weight"), (("a", "0.5"),))},
        rows=3,
        rows_sent=4,
        data_sha256="ab" * 32,
        search=SearchContext("sid1", "| inputlookup x", "search", "ana", "t", 1.0, 2.5),
        owner="ana",
        tags=("line=7",),
        seeds={"seed": 42},
        code_version="0.1.0",
        environment={"python": "3.11"},
        job_id="j1",
        created_at=1.5,
    )
    return replace(manifest, **changes)


def make_rich_manifest() -> Manifest:
    """One that uses every kind of feature, completed."""
    features = (
        NumberFeature("a", 1.0),
        OneHotFeature("c", ("x",), "x"),
        CodesFeature("d", ("u", "v")),
        TargetFeature("e", ("p",), None, ((0.1,),), (0.2,)),
    )
    golden = GoldenVectors.of(np.array([[1.0, 1.0, np.nan, 0.1]]), {"label": np.array([0])})
    return make_manifest(
        preparation=Preparation("impute", features),
        golden=golden,
        name="app.search/pump",
        version=3,
        files={"model.onnx": FileEntry("0" * 64, 12)},
        origin=Origin("app.plant/pump", 2, "ab" * 32, "0" * 16),
    )


def schema_problems(
    schema: dict[str, Any], value: Any, root: dict[str, Any] | None = None, at: str = "$"
) -> list[str]:
    """What of ``value`` does not fit ``schema``. Raises for a keyword it does not know."""
    root = root or schema
    known = {
        "$schema", "$id", "$defs", "$ref", "title", "description", "type", "properties", "required",
        "additionalProperties", "items", "enum", "const", "minimum", "maximum", "pattern", "anyOf", "oneOf",
        "minItems", "maxItems", "uniqueItems",
    }  # fmt: skip
    if set(schema) - known:
        raise ValueError(f"unknown keywords {set(schema) - known}")
    if "$ref" in schema:
        return schema_problems(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root, at)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            fits = sum(not schema_problems(option, value, root, at) for option in schema[key])
            if not fits or (key == "oneOf" and fits != 1):
                return [f"{at}: fits {fits} of {key}"]
    problems: list[str] = []
    kinds = schema.get("type", [])
    if kinds and not any(_is(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return [f"{at}: not {kinds}"]
    if "const" in schema and value != schema["const"]:
        problems.append(f"{at}: not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        problems.append(f"{at}: not one of {schema['enum']}")
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get(
        "maximum", value
    ):
        problems.append(f"{at}: out of range")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        problems.append(f"{at}: does not match")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            problems.append(f"{at}: has {len(value)} items")
        if schema.get("uniqueItems") and len({json.dumps(item) for item in value}) < len(value):
            problems.append(f"{at}: has an item twice")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            problems += schema_problems(schema["items"], item, root, f"{at}[{index}]")
    if isinstance(value, dict):
        problems += [f"{at}: lacks {key}" for key in schema.get("required", ()) if key not in value]
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties", {}))
            if inner is False:
                problems.append(f"{at}: unknown {key}")
            else:
                problems += schema_problems(inner, item, root, f"{at}.{key}")
    return problems


def _is(value: Any, kind: str) -> bool:
    if kind in ("integer", "number") and isinstance(value, bool):
        return False
    types = {
        "object": dict,
        "array": list,
        "string": str,
        "number": int | float,
        "integer": int,
        "boolean": bool,
        "null": type(None),
    }
    return isinstance(value, types[kind])
