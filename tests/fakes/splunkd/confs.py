"""Read .conf files and layer them: default below local (facts/splunk_app.md 1.8)."""

from __future__ import annotations

from pathlib import Path

Conf = dict[str, dict[str, str]]


def parse_conf(text: str) -> Conf:
    """Stanzas and their settings; a backslash at a line's end joins the next one; what stands above the first
    stanza is `default`."""
    conf: Conf = {}
    stanza = "default"
    lines = iter(text.splitlines())
    for line in lines:
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if stripped.startswith("[") and stripped.endswith("]"):
            stanza = stripped[1:-1]
            conf.setdefault(stanza, {})
            continue
        while stripped.endswith("\\"):
            stripped = stripped[:-1] + "\n" + next(lines, "").rstrip()
        name, sign, value = stripped.partition("=")
        if sign:
            conf.setdefault(stanza, {})[name.strip()] = value.strip()
    return conf


def read_conf(path: Path) -> Conf:
    return parse_conf(path.read_text(encoding="utf-8-sig")) if path.is_file() else {}


def layer(*confs: Conf) -> Conf:
    """Later ones win, setting by setting."""
    merged: Conf = {}
    for conf in confs:
        for stanza, settings in conf.items():
            merged.setdefault(stanza, {}).update(settings)
    return merged
