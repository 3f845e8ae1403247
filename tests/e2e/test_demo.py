"""`make demo`'s steps run green."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.mark.timeout(240)
def test_the_demo_ends_well(root: Path, app_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("kepler_demo", root / "tools" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    assert demo.main() == 0
    shown = capsys.readouterr().out
    for title, _ in demo.STEPS:
        assert title.split("[")[0].strip() in shown
    assert "ended otherwise" not in shown
