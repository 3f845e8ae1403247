"""The installed apps: their confs, commands, lookups and REST handlers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .confs import Conf, layer, read_conf
from .errors import SplSyntaxError


@dataclass
class App:
    """One app's folder and what was written to its confs through REST since."""

    name: str
    path: Path
    written: dict[str, Conf] = field(default_factory=dict)

    def conf(self, name: str) -> Conf:
        """default below local below what was written through REST, with the [default] stanza underneath."""
        files = [read_conf(self.path / layer_ / f"{name}.conf") for layer_ in ("default", "local")]
        return layer(*files, self.written.get(name, {}))

    def readers(self, kind: str, name: str) -> list[str]:
        """The roles that may read an object, from metadata: `[commands/x]`, `[commands]`, `[]`, in that order.

        Without any ACL everyone may (default.meta.conf.spec).
        """
        meta = layer(*(read_conf(self.path / "metadata" / f"{n}.meta") for n in ("default", "local")))
        for stanza in (f"{kind}/{name}", kind, ""):
            access = meta.get(stanza, {}).get("access", "")
            match = re.search(r"read\s*:\s*\[([^\]]*)\]", access)
            if match:
                return [r.strip() for r in match[1].split(",") if r.strip()]
        return ["*"]

    def conf_names(self) -> list[str]:
        found = {p.stem for layer_ in ("default", "local") for p in (self.path / layer_).glob("*.conf")}
        return sorted(found | set(self.written))


@dataclass(frozen=True)
class CustomCommand:
    """A stanza of commands.conf with the script it names."""

    name: str
    app: App
    script: Path
    settings: dict[str, str]

    @property
    def is_risky(self) -> bool:
        return self._true("is_risky")

    @property
    def run_in_preview(self) -> bool:
        """False by default for chunked commands (facts/splunk_app.md 1.6)."""
        return self._true("run_in_preview")

    @property
    def max_wait_s(self) -> float:
        return float(self.settings.get("maxwait", "0") or 0)

    @property
    def max_chunk_bytes(self) -> int:
        return int(self.settings.get("maxchunksize", "0") or 0)

    def _true(self, name: str) -> bool:
        return self.settings.get(name, "false").strip().lower() in {"1", "t", "true", "yes", "y"}


def app_name(path: Path) -> str:
    """The id the app declares (app.conf [package] id, app.manifest, [id] name), else its folder's name."""
    conf = read_conf(path / "default" / "app.conf")
    declared = conf.get("package", {}).get("id") or conf.get("id", {}).get("name")
    manifest = path / "app.manifest"
    if not declared and manifest.is_file():
        declared = json.loads(manifest.read_text(encoding="utf-8")).get("info", {}).get("id", {}).get("name")
    return declared or path.name


class Apps:
    """Every installed app, and what they offer to all (the stand-in exports everything)."""

    def __init__(self) -> None:
        self._apps: dict[str, App] = {}

    def install(self, name: str, path: Path) -> App:
        app = App(name, path)
        self._apps[name] = app
        return app

    def __iter__(self) -> Iterator[App]:
        return iter(list(self._apps.values()))

    def get(self, name: str) -> App | None:
        return self._apps.get(name)

    def command(self, name: str) -> CustomCommand | None:
        for app in self:
            settings = app.conf("commands").get(name)
            if settings is None:
                continue
            if settings.get("chunked", "false").lower() not in {"1", "true", "t"}:
                raise SplSyntaxError(
                    f"Error in '{name}' command: the splunkd stand-in runs chunked commands only; set chunked = true."
                )
            return CustomCommand(
                name, app, _script(app.path, settings.get("filename", f"{name}.py")), settings
            )
        return None

    def macro(self, name: str) -> dict[str, str] | None:
        for app in self:
            found = app.conf("macros").get(name)
            if found is not None:
                return found
        return None


def _script(app: Path, filename: str) -> Path:
    """First the platform's bin, then bin (facts/splunk_app.md 1.8)."""
    for folder in ("linux_x86_64/bin", "linux_x86/bin", "bin"):
        path = app / folder / filename
        if path.is_file():
            return path
    return app / "bin" / filename
