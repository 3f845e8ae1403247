"""The settings reference is current, its examples load, and no setting is offered that does nothing."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from kepler.settings import CLIENT_VARIABLES, Settings, load_settings, setting_keys

EXAMPLE = re.compile(r"```toml\n(# kepler\.toml\n.*?)```", re.DOTALL)


def tool(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_settings_docs", root / "tools" / "make_settings_docs.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_and_schema_are_current(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool(root).main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_page_is_noticed(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = tool(root)
    module.ROOT, module.PAGE, module.SCHEMA = tmp_path, tmp_path / "p.md", tmp_path / "s.json"
    assert module.main(["--check"]) == 1
    assert "p.md is not current" in capsys.readouterr().err
    assert module.main([]) == 0
    assert module.main(["--check"]) == 0


def test_every_example_loads(root: Path, tmp_path: Path) -> None:
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    examples = [
        (page, text) for page in pages if page.exists() for text in EXAMPLE.findall(page.read_text("utf-8"))
    ]
    assert len(examples) >= 4
    for page, text in examples:
        path = tmp_path / "kepler.toml"
        path.write_text(text)
        assert load_settings(path, {"home": tmp_path}), page


def test_every_setting_is_documented_in_a_sentence() -> None:
    for key, field in setting_keys():
        assert field.description, key
        assert field.description.rstrip().endswith((".", "TLS.")), key
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_every_setting_is_used(root: Path) -> None:
    """As an attribute somewhere outside the settings: what is not built is not offered."""
    package = root / "service" / "kepler"
    files = [
        file
        for file in package.rglob("*.py")
        if not file.name.startswith("settings") and "v1" not in file.parts
    ]
    used = {
        node.attr
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
    }
    unused = [key for key, _ in setting_keys() if key.rpartition(".")[2] not in used]
    assert unused == ["require_token"]  # its meaning is tokens_required, in the tree itself


def test_the_clients_variables_are_all_known(root: Path) -> None:
    """What the client code reads is known, or `kepler serve` would refuse to start beside it."""
    package = root / "service" / "kepler"
    files = [*package.glob("client/*.py"), *package.glob("adapters/splunk/*.py"), *package.glob("sdk*.py")]
    text = "".join(file.read_text("utf-8") for file in files)
    read = set(re.findall(r'"(KEPLER_[A-Z_]*[A-Z])"', text)) - {"KEPLER_HOME"}
    assert read
    assert read <= set(CLIENT_VARIABLES)
