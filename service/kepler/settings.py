"""Every setting of the service.

``load_settings`` reads, each over the ones before: the defaults, the file (``<home>/kepler.toml`` or
``--config FILE``), the environment (``KEPLER_JOBS__CONCURRENCY=4``), the flags. What it does not know it
refuses, naming the nearest known key. ``Settings(...)`` itself reads nothing but its arguments.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from kepler.core.errors import InvalidInput, KeplerError, NotFound, nearest
from kepler.settings_sections import (
    EdgeSettings,
    HecSettings,
    JobSettings,
    LogSettings,
    MqttSettings,
    PredictSettings,
    SecretSettings,
    Section,
    TlsSettings,
    TrainingSettings,
    WorkerSettings,
    is_loopback,
    split_address,
)
from kepler.settings_targets import BarbaraSettings, EdgeHubSettings

PREFIX = "KEPLER_"
DEFAULT_HOME = Path("~/.kepler")
CONFIG_NAME = "kepler.toml"
# Variables with our prefix that the clients read (kepler.client.address), the service does not.
CLIENT_VARIABLES = {
    "KEPLER_ADDRESS": "HOST:PORT of the service's gRPC; empty: the service of the home.",
    "KEPLER_TOKEN": "Token sent with every call.",
    "KEPLER_CA_FILE": "PEM authorities of the service's certificate; setting it asks for TLS.",
    "KEPLER_CLIENT_CERT_FILE": "PEM certificate that a client shows where the service asks for one (mTLS).",
    "KEPLER_CLIENT_KEY_FILE": "PEM private key of that certificate.",
    "KEPLER_SPLUNK_HOST": "Splunk's host, for `kepler extract` and kp.data.from_splunk.",
    "KEPLER_SPLUNK_PORT": "Splunk's management port; 8089 unless set.",
    "KEPLER_SPLUNK_SCHEME": "https, or http for a test installation.",
    "KEPLER_SPLUNK_USERNAME": "User that logs in to Splunk.",
    "KEPLER_SPLUNK_PASSWORD": "That user's password.",
    "KEPLER_SPLUNK_TOKEN": "Splunk authentication token instead of user and password.",
    "KEPLER_SPLUNK_APP": "Splunk app to search in.",
    "KEPLER_SPLUNK_CA_FILE": "PEM authorities of the certificate of Splunk's management port.",
    "KEPLER_SPLUNK_VERIFY": "false leaves the certificate of Splunk's management port unchecked.",
}
TLS_HOW = "Set tls.cert_file and tls.key_file (`kepler tls init` makes a pair to try)"
TEST_PREFIX = "KEPLER_TEST_"
# Kubernetes sets these for every Service named kepler or kepler-...; they are none of our settings.
LINK_VARIABLE = re.compile(
    r"KEPLER_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)"
)


class Settings(BaseSettings):
    """All settings of ``kepler serve``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    home: Path = Field(default=DEFAULT_HOME, description="Folder of everything the service keeps.")
    grpc: str = Field(default="127.0.0.1:8790", description="HOST:PORT of gRPC; port 0 takes a free one.")
    http: str = Field(
        default="127.0.0.1:8791", description="HOST:PORT of health and metrics; port 0 takes a free one."
    )
    require_token: bool = Field(
        default=False,
        description="Ask for tokens on loopback too; needs TLS. Other addresses always ask for them.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Host names HTTP answers to, with commas between; empty: the loopback names on loopback, "
        "any name elsewhere, where TLS already refuses wrong ones.",
    )
    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="postgresql://USER:PASSWORD@HOST/NAME for jobs and registry; empty: SQLite in the home.",
    )
    drain_s: float = Field(
        default=30.0, ge=0, description="Seconds that calls and jobs get to finish when the service stops."
    )
    tls: TlsSettings = Field(default_factory=TlsSettings, description="Certificates of both listeners.")
    log: LogSettings = Field(default_factory=LogSettings, description="What the service writes about itself.")
    worker: WorkerSettings = Field(
        default_factory=WorkerSettings, description="Limits of the training processes."
    )
    jobs: JobSettings = Field(default_factory=JobSettings, description="The queue of trainings.")
    predict: PredictSettings = Field(
        default_factory=PredictSettings, description="Predictions and stream bounds."
    )
    training: TrainingSettings = Field(
        default_factory=TrainingSettings, description="What an upload may take."
    )
    mqtt: MqttSettings = Field(
        default_factory=MqttSettings, description="The service's own connection to the fleet's broker."
    )
    edge: EdgeSettings = Field(
        default_factory=EdgeSettings, description="What devices are told, and how long it holds."
    )
    barbara: BarbaraSettings = Field(
        default_factory=BarbaraSettings, description="Barbara's platform, a place to deploy to."
    )
    edge_hub: EdgeHubSettings = Field(
        default_factory=EdgeHubSettings, description="Splunk Edge Hub, a place to deploy to."
    )
    secrets: SecretSettings = Field(default_factory=SecretSettings, description="The secret store.")
    hec: HecSettings = Field(default_factory=HecSettings, description="The spool into Splunk.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # `load_settings` merges the rest, so that tests mean what they say

    @field_validator("home")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("grpc", "http")
    @classmethod
    def _check_address(cls, value: str) -> str:
        split_address(value)
        return value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if url and not url.startswith(("postgresql://", "postgresql+psycopg://")):
            raise ValueError("Write it as postgresql://USER:PASSWORD@HOST/NAME, or leave it empty for SQLite")
        return value

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        """Nothing leaves the machine unencrypted, nor does a token."""
        if self.tls.enabled:
            return self
        for key, address in (("grpc", self.grpc), ("http", self.http)):
            if not is_loopback(split_address(address)[0]):
                raise ValueError(
                    f"Binding {key} to {address} opens it to other machines and needs TLS. {TLS_HOW}, "
                    f"or bind {key} to 127.0.0.1"
                )
        if self.require_token:
            raise ValueError(
                f"Asking for tokens needs TLS, for a token must not travel in the clear. {TLS_HOW}, "
                "or leave require_token off on loopback"
            )
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the service."""
        return all(is_loopback(split_address(address)[0]) for address in (self.grpc, self.http))

    @property
    def tokens_required(self) -> bool:
        return self.require_token or not self.loopback

    @property
    def log_file(self) -> Path:
        return self.home / "logs" / "service.log"

    @property
    def service_file(self) -> Path:
        """Where a running service writes its pid and addresses."""
        return self.home / "service.json"


def setting_keys(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting's dotted key with its pydantic field, in order; sections are walked, not given."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from setting_keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def variable(key: str) -> str:
    """The environment variable of a dotted key.

    >>> variable("jobs.concurrency")
    'KEPLER_JOBS__CONCURRENCY'
    """
    return PREFIX + key.replace(".", "__").upper()


def load_settings(config: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings from file, environment and ``flags``, the later over the earlier.

    Parameters
    ----------
    config
        The file to read in place of ``<home>/kepler.toml``; it must exist.
    flags
        Values by dotted key (``{"home": ..., "jobs.concurrency": 4}``); None means not given.

    Raises
    ------
    InvalidInput
        For an unknown key or a value that is not valid, naming where it came from.
    NotFound
        When ``config`` does not exist.
    """
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    from_environment = _read_environment()
    home = Path(given.get("home") or from_environment.get("home") or DEFAULT_HOME).expanduser()
    file = config if config is not None else home / CONFIG_NAME
    from_file = _read_file(file, required=config is not None)
    merged: dict[str, Any] = {}
    sources = {str(file): from_file, "the environment": from_environment, "the flags": _nested(given)}
    for values in sources.values():
        _merge(merged, values)
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise _explained(error, sources) from None  # pydantic's own text may quote a secret


def _read_environment() -> dict[str, Any]:
    known = {variable(key): key for key, _ in setting_keys()}
    sections = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in os.environ:
        upper = name.upper()
        ours = upper in known or upper in sections or upper in CLIENT_VARIABLES
        if (
            not upper.startswith(PREFIX)
            or ours
            or upper.startswith(TEST_PREFIX)
            or LINK_VARIABLE.fullmatch(upper)
        ):
            continue
        close = nearest(upper, [*known, *CLIENT_VARIABLES], 1)[0]
        raise InvalidInput(
            f"Kepler knows no environment variable {name[:100]}",
            fix=f"Did you mean {close}? Correct or unset it.",
        )
    try:
        return EnvSettingsSource(Settings)()
    except SettingsError as error:
        raise InvalidInput("A KEPLER_ environment variable is not readable", cause=str(error)) from None


def _read_file(file: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise NotFound(f"The settings file {file} does not exist", fix="Correct --config.") from None
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The settings file {file} is no valid TOML", cause=str(error)) from error
    except OSError as error:
        raise InvalidInput(f"The settings file {file} cannot be read", cause=error.strerror or "") from error


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return values


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _explained(error: ValidationError, sources: Mapping[str, Mapping[str, Any]]) -> KeplerError:
    """The first problem as one sentence with the key, where it was set, and what would be right."""
    first = error.errors(include_input=False, include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    origin = next(
        (name for name, values in reversed(list(sources.items())) if path and _has(values, path)), ""
    )
    where = f" in {origin}" if origin else ""
    if first["type"] == "extra_forbidden":
        close = nearest(key, [known for known, _ in setting_keys()], 1)[0]
        return InvalidInput(f"Kepler knows no setting {key[:100]!r}{where}", fix=f"Did you mean {close!r}?")
    reason = first["msg"].removeprefix("Value error, ")
    if not path:
        return InvalidInput(reason)
    return InvalidInput(f"The setting {key!r}{where} is not valid", cause=reason)


def _has(values: Mapping[str, Any], path: list[str]) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True
