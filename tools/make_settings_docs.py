"""Write docs/reference/settings.md and settings.schema.json from the settings tree; --check compares only."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from kepler.settings import CLIENT_VARIABLES, Settings, setting_keys, variable

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "settings.md"
SCHEMA = ROOT / "docs" / "reference" / "settings.schema.json"
INTRODUCTION = """\
# Settings

<!-- Written by tools/make_settings_docs.py from service/kepler/settings.py; edit there. -->

`kepler serve` reads its settings from four places, the later over the earlier: the defaults below, the file
(`kepler.toml` in the home, or the one named by `--config`), the environment, and its flags. A key that Kepler
does not know is refused with the nearest known one. The file as JSON Schema: `settings.schema.json`.

```toml
# kepler.toml
grpc = "127.0.0.1:8790"

[jobs]
concurrency = 4
```

On a loopback address without TLS the service asks for no token and every caller on the machine may do all.
Any other address, or `require_token`, needs TLS, and then tokens: see `docs/how-to/tls-and-tokens.md`.
"""


def page() -> str:
    lines = [INTRODUCTION]
    section = None
    for key, field in setting_keys():
        group = key.rpartition(".")[0]
        if group != section:
            section = group
            about = Settings.model_fields[group].description if group else "At the top of the file."
            lines += [f"## {f'[{group}]' if group else 'General'}", "", about or "", ""]
            lines += ["| Setting | Variable | Default | Meaning |", "|---|---|---|---|"]
        default = _default(field)
        lines.append(
            f"| `{key}` | `{variable(key)}` | {default} | {_cell(field.description or '')}{_range(field)} |"
        )
        following = [other for other, _ in setting_keys()]
        if following[-1] == key or following[following.index(key) + 1].rpartition(".")[0] != group:
            lines.append("")
    lines += ["## Clients", "", "Read by the SDK, the CLI and the search commands, not by the service.", ""]
    lines += ["| Variable | Meaning |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(text)} |" for name, text in CLIENT_VARIABLES.items()]
    return "\n".join(lines) + "\n"


def schema() -> str:
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}
    return json.dumps(document, indent=2) + "\n"


def _default(field: Any) -> str:
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value in (None, "", (), PydanticUndefined):
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) and value < 1e6 else f"`{value}`"


def _range(field: Any) -> str:
    """The bounds of a number, as pydantic keeps them."""
    words = {"ge": "at least", "gt": "above", "le": "at most"}
    bounds = [
        f"{words[name]} {getattr(rule, name):g}"
        for rule in field.metadata
        for name in words
        if getattr(rule, name, None) is not None
    ]
    choices = getattr(field.annotation, "__args__", ()) if "Literal" in str(field.annotation) else ()
    if choices:
        bounds = ["one of " + ", ".join(f"`{choice}`" for choice in choices)]
    return f" ({', '.join(bounds)})" if bounds else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main(arguments: list[str]) -> int:
    wanted = {PAGE: page(), SCHEMA: schema()}
    if "--check" in arguments:
        stale = [
            path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text
        ]
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not current: run tools/make_settings_docs.py\n")
        return 1 if stale else 0
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
