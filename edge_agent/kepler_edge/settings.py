"""Settings of the agent: a file, the environment above it, and a platform's file that may change while it runs."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from .errors import InvalidInput

PREFIX = "KEPLER_EDGE_"
# Where Barbara mounts what its users configure.
BARBARA_FILE = Path("/appconfig/appconfig.json")
NAME = re.compile(r"[a-z0-9-]{1,64}")
# May change while the agent runs: from the platform's file, and from the desired state.
LIVE = frozenset(
    {
        "log_level", "telemetry", "quota_mb", "ttl_p0_s", "ttl_p1_s", "ttl_p2_s", "ttl_p3_s", "hist_bytes_per_s",
        "p0_bytes_per_s", "p1_bytes_per_s", "p2_bytes_per_s", "p3_bytes_per_s", "logs_per_minute", "resend_s",
    }
)  # fmt: skip
# May be kept in a file of its own, whose path the environment names with _FILE (a mounted secret).
SECRETS = frozenset({"password"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Each name is also a variable: ``KEPLER_EDGE_`` and the name in capitals."""

    home: Path = Path("/var/lib/kepler-edge")
    tenant: str = "default"
    device: str = ""
    broker: str = ""
    """`mqtts://host:8883`, or `mqtt://host:1883` where the line is safe. Empty: what enrolment stored."""
    protocol: str = "auto"
    """`5`, `3.1.1`, or `auto`: 5, and 3.1.1 where the broker refuses it."""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    """For a site's own certificate authority; empty: what enrolment stored, with the device's key."""
    username: str = ""
    password: str = field(default="", repr=False)
    keepalive_s: float = 30.0
    session_expiry_s: float = 7 * 86400.0
    reconnect_min_s: float = 1.0
    reconnect_max_s: float = 300.0
    quota_mb: float = 200.0
    ttl_p0_s: float = 0.0
    ttl_p1_s: float = 0.0
    ttl_p2_s: float = 7 * 86400.0
    ttl_p3_s: float = 3 * 86400.0
    hist_bytes_per_s: float = 125_000.0
    p0_bytes_per_s: float = 0.0
    p1_bytes_per_s: float = 0.0
    p2_bytes_per_s: float = 0.0
    p3_bytes_per_s: float = 16_000.0
    resend_s: float = 30.0
    telemetry: bool = False
    """Whether readings themselves are sent, beside the predictions made from them."""
    log_level: str = "info"
    logs_per_minute: float = 60.0
    ask_address: str = ""
    """`host:port` of the service's gRPC listener, asked where the device is unsure. Empty: never."""
    ask_model: str = ""
    ask_token_file: str = ""
    ask_confidence: float = 0.0
    ask_low: float = 0.0
    ask_high: float = 0.0
    ask_timeout_s: float = 1.0
    edgehub_output: str = ""
    """`host:50051` of the hub that shows predictions too; needs the extra `edgehub`. Empty: none."""
    inputs: tuple[Mapping[str, object], ...] = ()

    @property
    def root(self) -> str:
        """Beginning of the device's topics."""
        return f"kepler/v1/{self.tenant}/{self.device}"

    def public(self) -> dict[str, object]:
        """For diagnostics: no secret, and of inputs only names and kinds, for their addresses may hold one."""
        found: dict[str, object] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name in SECRETS:
                value = "set" if value else ""
            elif one.name == "inputs":
                value = [{key: str(item.get(key, "")) for key in ("name", "kind")} for item in self.inputs]
            elif one.name == "broker":
                value = without_login(self.broker)
            elif isinstance(value, Path):
                value = str(value)
            found[one.name] = value
        return found


def without_login(url: str) -> str:
    """An address without user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}" if url else ""


def load(
    path: Path | None = None, env: Mapping[str, str] | None = None, barbara: Path = BARBARA_FILE
) -> Settings:
    """The settings: defaults, below ``path``, below Barbara's file, below the environment.

    Raises
    ------
    InvalidInput
        Naming the setting that is unknown or wrong.
    """
    env = os.environ if env is None else env
    values: dict[str, object] = {}
    path = path or (Path(env[f"{PREFIX}SETTINGS"]) if env.get(f"{PREFIX}SETTINGS") else None)
    if path is not None:
        values |= read_file(path)
    if barbara.is_file():
        values |= read_file(barbara)
    values |= _from_env(env)
    return make(values)


def make(values: Mapping[str, object], base: Settings | None = None) -> Settings:
    """Settings with ``values`` over ``base``. Raises InvalidInput."""
    known = {one.name: one for one in fields(Settings)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InvalidInput(
            f"Unknown setting {unknown[0]!r}", fix=f"The settings are: {', '.join(sorted(known))}."
        )
    base = base or Settings()
    made = replace(
        base, **{name: _convert(name, value, getattr(base, name)) for name, value in values.items()}
    )
    _check(made)
    return made


def live_changes(current: Settings, values: Mapping[str, object]) -> tuple[Settings, list[str]]:
    """``current`` with those of ``values`` that may change while it runs, and the names of those that may not."""
    refused = sorted(
        name for name, value in values.items() if name not in LIVE and _differs(current, name, value)
    )
    return make({name: value for name, value in values.items() if name in LIVE}, current), refused


def read_file(path: Path) -> dict[str, object]:
    """The object of a JSON or TOML file. Raises InvalidInput; half-written files are not read."""
    try:
        text = path.read_bytes()
        found: object = tomllib.loads(text.decode("utf-8")) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise InvalidInput(f"Settings file {path} cannot be read", cause=str(error)) from error
    except ValueError as error:
        raise InvalidInput(f"Settings file {path} is no JSON or TOML", cause=str(error)) from error
    if not isinstance(found, dict):
        raise InvalidInput(f"Settings file {path} holds no object")
    return cast("dict[str, object]", found)


class FileWatch:
    """A file that may be replaced at any moment, seen by its time and size; a half-written one is read later."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._mark()

    def changed(self) -> dict[str, object] | None:
        """What stands in it, when that is new; else None."""
        mark = self._mark()
        if mark is None or mark == self._seen:
            return None
        try:
            found = read_file(self._path)
        except InvalidInput:
            return None
        self._seen = mark
        return found

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _from_env(env: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    names = {one.name for one in fields(Settings)}
    for key, text in env.items():
        if not key.startswith(PREFIX) or key == f"{PREFIX}SETTINGS":
            continue
        name = key[len(PREFIX) :].lower()
        if name.endswith("_file") and name.removesuffix("_file") in SECRETS:
            try:
                values[name.removesuffix("_file")] = Path(text).read_text("utf-8").strip()
            except OSError as error:
                raise InvalidInput(f"{key} cannot be read", cause=str(error)) from error
        elif name in names:
            values[name] = json.loads(text) if name == "inputs" else text
    return values


def _convert(name: str, value: object, like: object) -> Any:
    try:
        if name == "inputs":
            if not isinstance(value, (list, tuple)) or not all(
                isinstance(one, dict) for one in cast("list[object]", value)
            ):
                raise ValueError("a list of objects is needed")
            return tuple(cast("list[dict[str, object]]", value))
        if isinstance(like, bool):
            if isinstance(value, bool):
                return value
            return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
        if isinstance(like, float):
            if isinstance(value, bool):
                raise ValueError("a number is needed")
            return float(cast("float", value))
        if not isinstance(value, (str, Path)):
            raise ValueError("a text is needed")
        return Path(value) if isinstance(like, Path) else value
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"Setting {name!r} is wrong", cause=str(error)) from error


def _check(made: Settings) -> None:
    for name in ("tenant", "device"):
        value = getattr(made, name)
        if value and not NAME.fullmatch(value):
            raise InvalidInput(
                f"Setting {name!r} is wrong: {value!r}", fix="Use a-z, 0-9 and -, at most 64 characters."
            )
    if made.device == "host":
        raise InvalidInput("No device may be called 'host'", fix="Choose another name.")
    if made.protocol not in ("auto", "5", "3.1.1"):
        raise InvalidInput(f"Setting 'protocol' is wrong: {made.protocol!r}", fix="Use auto, 5 or 3.1.1.")
    if made.log_level not in ("debug", "info", "warning", "error"):
        raise InvalidInput(
            f"Setting 'log_level' is wrong: {made.log_level!r}", fix="Use debug, info, warning or error."
        )
    if made.broker and urlsplit(made.broker).scheme not in ("mqtt", "mqtts"):
        raise InvalidInput("Setting 'broker' is no mqtt:// or mqtts:// address", fix="Use mqtts://host:8883.")
    if made.ask_address and not (made.ask_model and (made.ask_confidence or made.ask_low < made.ask_high)):
        raise InvalidInput(
            "ask_address needs ask_model and a rule", fix="Set ask_confidence, or ask_low below ask_high."
        )
    for one in fields(made):
        value = getattr(made, one.name)
        if isinstance(value, float) and not 0 <= value < 1e12:
            raise InvalidInput(f"Setting {one.name!r} is wrong: {value}", fix="Use a number from 0.")
    if made.reconnect_min_s <= 0 or made.keepalive_s < 1:
        raise InvalidInput("reconnect_min_s must be above 0, and keepalive_s at least 1")


def _differs(current: Settings, name: str, value: object) -> bool:
    try:
        return getattr(current, name) != _convert(name, value, getattr(current, name))
    except (AttributeError, InvalidInput):
        return True
