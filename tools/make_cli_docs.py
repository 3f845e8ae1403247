"""Write docs/reference/cli.md from the commands themselves, or check that it is up to date."""

from __future__ import annotations

import argparse
import inspect
import re
from pathlib import Path
from typing import Any

from kepler.adapters.cli.exit_codes import MEANINGS
from kepler.adapters.cli.main import Commands, top

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "reference" / "cli.md"

HEAD = """# The command line

<!-- Written by tools/make_cli_docs.py from the commands themselves. Change those, not this file. -->

{about}

Results go to stdout, notes and errors to stderr. With `--json` a command prints one JSON document. Progress
bars appear on terminals only. An error is one sentence: what happened, why, and what to do next;
`kepler --debug COMMAND ...` shows where it came from.

## Exit codes

| Code | Meaning |
|---|---|
{codes}

## Commands
"""


def commands() -> list[tuple[str, Any]]:
    """Every command that does something, by its whole name."""
    found: list[tuple[str, Any]] = []
    for entry in Commands.entries:
        if entry.present:
            _walk(f"kepler {entry.name}", entry.load(), found)
    return found


def _walk(name: str, command: Any, found: list[tuple[str, Any]]) -> None:
    children = getattr(command, "commands", None)
    if not children:
        found.append((name, command))
        return
    for child, inner in children.items():
        _walk(f"{name} {child}", inner, found)


def options(command: Any) -> list[Any]:
    """Arguments, then options; ``--help`` is everywhere and left out."""
    shown = [item for item in command.params if not getattr(item, "hidden", False) and item.name != "help"]
    return sorted(shown, key=lambda item: item.param_type_name != "argument")


def spelled(item: Any) -> str:
    """How a parameter is written on the command line."""
    if item.param_type_name == "argument":
        return str(item.metavar or item.name.upper())
    return ", ".join([*item.opts, *item.secondary_opts])


def _text(text: str) -> str:
    return re.sub(r"\s+", " ", text or "").strip().replace("|", "\\|")


def _default(item: Any) -> str:
    if item.required:
        return "required"
    value = item.default
    if value is None or value == "" or value is False or callable(value) or getattr(item, "multiple", False):
        return ""
    if getattr(item, "show_default", True) is False:
        return ""
    return f"`{'--' + item.name if value is True else value}`"


def render() -> str:
    """The whole page."""
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in MEANINGS.items())
    parts = [HEAD.format(about=inspect.cleandoc(top.__doc__ or ""), codes=codes)]
    for name, command in commands():
        about = "\n".join(line.strip() for line in (command.help or "").strip().splitlines())
        parts.append(f"### `{name}`\n\n{about}\n")
        rows = [f"| `{spelled(item)}` | {_text(item.help)} | {_default(item)} |" for item in options(command)]
        if rows:
            parts.append(
                "\n".join(["| Argument or option | Meaning | Default |", "|---|---|---|", *rows]) + "\n"
            )
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing, fail when something would change"
    )
    text = render()
    if parser.parse_args().check:
        if not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text:
            print(f"{TARGET.relative_to(ROOT)} is out of date: run tools/make_cli_docs.py")
            return 1
        return 0
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
