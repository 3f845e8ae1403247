"""Real data that every installation has: scikit-learn's bundled sets as CSV lookups, with readable field names."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Iterable, Sequence
from typing import Any

from sklearn import datasets


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def _classes(bunch: Any, names: Sequence[str], target: str) -> str:
    labels = [str(bunch.target_names[number]) for number in bunch.target]
    rows = [[*x, y] for x, y in zip(bunch.data.tolist(), labels, strict=True)]
    return csv_text([*names, target], rows)


def _values(bunch: Any, target: str) -> str:
    rows = [[*x, y] for x, y in zip(bunch.data.tolist(), bunch.target.tolist(), strict=True)]
    return csv_text([*bunch.feature_names, target], rows)


@functools.cache
def lookups() -> dict[str, str]:
    """iris (plain, with its own long names, and with gaps), wine, cancer and diabetes (scaled too), in mixed order.

    The rows are shuffled with a fixed seed: in the originals each class stands in one block, which
    trainings in parts would learn one class at a time.
    """
    iris, wine, cancer = datasets.load_iris(), datasets.load_wine(), datasets.load_breast_cancer()
    diabetes, scaled = datasets.load_diabetes(scaled=False), datasets.load_diabetes()
    short = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    made = {
        "iris.csv": _classes(iris, short, "species"),
        # "sepal length (cm)": blanks and parentheses
        "iris_cm.csv": _classes(iris, list(iris.feature_names), "iris species"),
        # "od280/od315_of_diluted_wines": a slash
        "wine.csv": _classes(wine, list(wine.feature_names), "cultivar"),
        "cancer.csv": _classes(cancer, list(cancer.feature_names), "diagnosis"),
        "diabetes.csv": _values(diabetes, "progression"),
        "diabetes_scaled.csv": _values(scaled, "progression"),
    }
    mixed = {name: _mixed(text) for name, text in made.items()}
    return {**mixed, "iris_gaps.csv": _with_gaps(mixed["iris.csv"])}


def _mixed(text: str) -> str:
    """The rows in another order, the same each time: step through them by a number prime to their count."""
    header, *rows = text.splitlines()
    step = next(n for n in (89, 97, 101) if len(rows) % n)
    return "\n".join([header, *(rows[(i * step) % len(rows)] for i in range(len(rows)))]) + "\n"


def _with_gaps(text: str) -> str:
    """Every tenth row lacks its first value."""
    header, *rows = text.splitlines()
    rows = [("" + row[row.index(",") :]) if i % 10 == 0 else row for i, row in enumerate(rows)]
    return "\n".join([header, *rows]) + "\n"


def columns(name: str) -> dict[str, list[str]]:
    """The cells of a lookup by field."""
    header, *rows = list(csv.reader(io.StringIO(lookups()[name])))
    return {field: [row[i] for row in rows] for i, field in enumerate(header)}
