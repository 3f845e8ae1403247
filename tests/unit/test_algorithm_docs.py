from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_current() -> None:
    made = runpy.run_path(str(ROOT / "tools" / "make_algorithm_docs.py"))
    page = ROOT / "docs" / "reference" / "algorithms.md"
    if made["page"]() != page.read_text():
        pytest.fail("docs/reference/algorithms.md is not current; run python tools/make_algorithm_docs.py")
