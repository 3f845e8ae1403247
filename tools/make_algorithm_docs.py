"""Writes docs/reference/algorithms.md from the registry; ``--check`` fails when the page is not current."""

from __future__ import annotations

import sys
from pathlib import Path

from kepler.core.algorithms import AlgorithmInfo, Param, Task
from kepler.parameters import expected
from kepler.registry import load_registry

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "algorithms.md"
TITLES = {
    Task.CLASSIFICATION: "Classification",
    Task.REGRESSION: "Regression",
    Task.CLUSTERING: "Clustering",
    Task.ANOMALY: "Outliers",
    Task.TRANSFORM: "Transforms",
}
HEAD = """# Algorithms

Made from the registry by `tools/make_algorithm_docs.py`; edit the algorithm's file, not this page.

Names are taken in any case. An alias that two algorithms share (`rf`, `lightgbm`) means the one that fits
the target. Any public estimator of scikit-learn can be named too: `sklearn.linear_model.Lars`.
Booleans are `true`, `false`, `t`, `f`, `1` or `0`; layers are written `100-50`; `none` stands for no value.
*float32* says that the matrix is cast to float32, in training and in scoring alike.
"""


def page() -> str:
    """The whole page. A third party's plugins are left out: the page speaks of this package."""
    infos = load_registry(group="kepler.no-such-group").all()
    parts = [HEAD]
    for task, title in TITLES.items():
        parts.append(f"## {title}\n")
        parts += [_section(info) for info in infos if info.task is task]
    return "\n".join(parts).rstrip() + "\n"


def _section(info: AlgorithmInfo) -> str:
    lines = [f"### {info.name}", "", *_doc(info), ""]
    facts = []
    if info.aliases:
        facts.append("Aliases: " + ", ".join(f"`{alias}`" for alias in info.aliases))
    if info.extra:
        facts.append(f"needs the extra `{info.extra}`")
    facts.append(
        "takes missing values with `nulls=native`" if info.native_nulls else "takes no missing values"
    )
    if info.native_categoricals:
        facts.append("takes text fields as they are with `categoricals=native`")
    if not info.savable:
        facts.append("cannot be saved")
    lines += ["; ".join(facts)[:1].upper() + "; ".join(facts)[1:] + ".", ""]
    if info.params:
        lines += ["| Parameter | Default | Values | Meaning |", "|---|---|---|---|"]
        lines += [_row(param) for param in info.params.values()]
        lines.append("")
    return "\n".join(lines)


def _doc(info: AlgorithmInfo) -> list[str]:
    return [line.strip().replace("``", "`") for line in info.doc.splitlines()]


def _row(param: Param) -> str:
    default = param.default
    if isinstance(default, list | tuple):
        default = "-".join(map(str, default))
    shown = "none" if default is None else str(default).lower() if isinstance(default, bool) else f"{default}"
    unit = f" ({param.unit})" if param.unit else ""
    also = f" Also: {', '.join(f'`{alias}`' for alias in param.aliases)}." if param.aliases else ""
    return f"| `{param.name}` | {shown} | {expected(param)}{unit} | {param.help}{also} |"


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.is_file() or PAGE.read_text() != text:
            sys.stderr.write(f"{PAGE.name} is not current; run python tools/make_algorithm_docs.py\n")
            return 1
        return 0
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
