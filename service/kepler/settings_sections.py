"""The groups of the settings tree, and what an address is."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

LOOPBACK_NAMES = ("localhost", "ip6-localhost")


_STORED_NAME = r"^[A-Za-z0-9_.-]{1,100}$"
# indexes.conf of Splunk: lower case letters, digits, underscores and hyphens, not beginning with the last two.
# Splunk's own indexes begin with an underscore; nothing of ours belongs there.
_INDEX_NAME = r"^[a-z0-9][a-z0-9_-]{0,79}$"


class Section(BaseModel):
    """A group of settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class TlsSettings(Section):
    """Certificates of both listeners."""

    cert_file: Path | None = Field(
        default=None, description="PEM certificate of the service, leaf first. Turns TLS on."
    )
    key_file: Path | None = Field(
        default=None, description="PEM private key of the certificate, without password."
    )
    client_ca_file: Path | None = Field(
        default=None,
        description="PEM authorities of client certificates, asked for on gRPC (mTLS). Empty asks for none.",
    )

    @property
    def enabled(self) -> bool:
        return self.cert_file is not None

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("TLS needs both: set tls.cert_file and tls.key_file")
        if self.client_ca_file is not None and self.cert_file is None:
            raise ValueError("mTLS needs TLS: set tls.cert_file and tls.key_file too")
        return self


class LogSettings(Section):
    """What the service writes about itself."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe event written."
    )
    format: Literal["console", "json"] = Field(
        default="console", description="Format on stderr; the file is always JSON."
    )
    file_mb: int = Field(
        default=20, ge=1, le=1024, description="Size at which <home>/logs/service.log is rotated, in MiB."
    )
    file_count: int = Field(default=5, ge=1, le=100, description="Rotated log files that are kept.")


class WorkerSettings(Section):
    """Limits of the processes that train."""

    processes: int = Field(
        default=64, ge=4, le=4096, description="Processes one training may have at the same time."
    )
    threads: int = Field(default=1, ge=1, le=256, description="Threads of each worker.")
    memory_mb: int = Field(
        default=4096, ge=256, description="Memory a worker may use, in MiB; beyond it the job fails."
    )
    time_s: float = Field(default=14_400.0, gt=0, description="Time a training may take, in seconds.")
    cpu_s: float = Field(
        default=0.0,
        ge=0,
        description="Processor seconds a training may use, of all its threads; 0: no limit.",
    )
    scratch_mb: int = Field(default=10_240, ge=16, description="Largest file a worker may write, in MiB.")


class JobSettings(Section):
    """The queue of trainings."""

    concurrency: int = Field(default=2, ge=1, le=256, description="Jobs that run at the same time.")
    queue_limit: int = Field(
        default=1000, ge=1, description="Jobs that may wait; the next one is refused as overloaded."
    )
    max_attempts: int = Field(
        default=3, ge=1, le=20, description="Times a job is begun before a lost worker fails it."
    )
    results_ttl_s: float = Field(
        default=604_800.0, gt=0, description="Seconds a finished job's predictions are kept."
    )


class PredictSettings(Section):
    """The predict path and the bounds of every stream."""

    threads: int = Field(default=2, ge=1, le=256, description="Threads that score.")
    max_streams: int = Field(
        default=1024,
        ge=1,
        le=10_000,
        description="Streams served at once; more are refused, to retry. One holds a slice, 4 MiB at most.",
    )
    cache_mb: int = Field(
        default=1024, ge=1, description="Memory for loaded models, in MiB; the least used one goes first."
    )
    idle_timeout_s: float = Field(
        default=300.0,
        gt=0,
        description="Seconds a stream may be silent. A search waits for its indexers between slices.",
    )
    score_mb: int = Field(
        default=256,
        ge=1,
        description="Most rows of one `keplerscore`, in MiB of CSV; they are held in memory.",
    )


class TrainingSettings(Section):
    """What an upload may take."""

    max_upload_bytes: int = Field(default=50 * 2**30, ge=1, description="Most bytes of one upload.")
    max_uploads: int = Field(default=32, ge=1, le=1000, description="Uploads taken at once.")
    idle_timeout_s: float = Field(
        default=3600.0, gt=0, description="Seconds an upload may be silent while its search waits for events."
    )
    min_free_disk_bytes: int = Field(
        default=2**30,
        ge=0,
        description="Free disk, in bytes, below which uploads are refused and the service is not ready.",
    )


class MqttSettings(Section):
    """The service's own connection to the broker of the fleet."""

    address: str = Field(
        default="",
        description="HOST:PORT of the broker as the service reaches it. Empty: no fleet is served.",
    )
    tls: bool | None = Field(
        default=None,
        description="Whether TLS is used. Unset: everywhere but on this machine's loopback without certificates.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM authorities of the broker's certificate. Empty: the fleet's own authority.",
    )
    cert_file: Path | None = Field(
        default=None,
        description="PEM certificate that the service shows. Empty: one of the fleet's own authority, made by itself.",
    )
    key_file: Path | None = Field(default=None, description="PEM private key of that certificate.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("A client certificate needs both: set mqtt.cert_file and mqtt.key_file")
        if self.tls is False and self.address and not is_loopback(split_address(self.address)[0]):
            raise ValueError("A broker on another machine needs TLS: leave mqtt.tls unset")
        return self

    @field_validator("address")
    @classmethod
    def _check_address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @property
    def plain(self) -> bool:
        """Whether it goes without TLS, which it does to a broker on this machine alone."""
        if self.tls is not None or not self.address:
            return self.tls is False
        own = self.ca_file is None and self.cert_file is None
        return own and is_loopback(split_address(self.address)[0])


class EdgeSettings(Section):
    """What devices are told, and how long it holds."""

    tenant: str = Field(
        default="default",
        pattern=r"^[a-z0-9-]{1,64}$",
        description="Second part of every topic; one per site or customer.",
    )
    broker: str = Field(
        default="",
        description="mqtts://HOST:PORT of the broker as devices reach it; empty: they are told mqtt.address.",
    )
    broker_ca_file: Path | None = Field(
        default=None,
        description="PEM authorities that devices believe broker and service by, beside the fleet's own. "
        "Empty: the one that `kepler tls init` made, where the service uses it.",
    )
    public_url: str = Field(
        default="",
        description="https:// address of the service's HTTP listener as devices reach it; empty: they get files over MQTT.",
    )
    certificate_days: int = Field(
        default=397, ge=1, le=3650, description="Days a device's certificate is good for."
    )
    crl_file: Path | None = Field(
        default=None,
        description="Where the list of revoked certificates is written for the broker. Empty: <home>/edge/crl.pem.",
    )

    @field_validator("broker")
    @classmethod
    def _check_broker(cls, value: str) -> str:
        if value and not value.startswith(("mqtts://", "mqtt://")):
            raise ValueError("Write it as mqtts://HOST:PORT")
        return value

    @field_validator("public_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if value and not value.startswith("https://"):
            raise ValueError("Write it as https://HOST:PORT")
        return value


class SecretSettings(Section):
    """The secret store."""

    key: Literal["file", "keyring"] = Field(
        default="file",
        description="Where its key lives: a file with mode 0600 in the home, or the system's keyring.",
    )


class HecSettings(Section):
    """The spool into Splunk and the event collector it sends to."""

    url: str = Field(
        default="",
        pattern=r"^(https?://[^\s/]+.*)?$",
        description="Address of the event collector, https://HOST:8088. Empty: events stay in the spool.",
    )
    token: str = Field(
        default="splunk-hec-token",
        pattern=_STORED_NAME,
        description="Name of the secret that holds the collector's token (`kepler secret set`).",
    )
    metrics_token: str = Field(
        default="",
        pattern=rf"^$|{_STORED_NAME}",
        description="Name of another token's secret, for metrics; empty: the same token.",
    )
    ca_file: Path | None = Field(
        default=None, description="PEM authorities of the collector's certificate; empty: the system's."
    )
    index: str = Field(default="kepler", pattern=_INDEX_NAME, description="Index of events.")
    metrics_index: str = Field(
        default="kepler_metrics", pattern=_INDEX_NAME, description="Index of metric data points."
    )
    spool_mb: int = Field(
        default=1024,
        ge=16,
        description="Most that waits on the disk, in MiB. Beyond it the oldest events that may go are dropped, "
        "with an alert; those of edge devices never are: they wait on the devices then.",
    )
    dead_letter_mb: int = Field(
        default=64,
        ge=1,
        description="Most of what Splunk refused that is kept, in MiB; the oldest goes first.",
    )
    batch_kb: int = Field(
        default=512, ge=16, le=8192, description="Most of one request before compression, in KiB."
    )
    batch_events: int = Field(default=2000, ge=1, le=100_000, description="Most events of one request.")
    lanes: int = Field(
        default=2, ge=1, le=16, description="Requests at the same time; events of one source share a lane."
    )
    timeout_s: float = Field(default=30.0, gt=0, description="Seconds to wait for an answer.")
    max_backoff_s: float = Field(
        default=60.0, ge=1, description="Longest wait between attempts, in seconds; drawn between it and 0."
    )
    ack_poll_s: float = Field(
        default=10.0, gt=0, description="Seconds between questions for acknowledgements."
    )
    ack_timeout_s: float = Field(
        default=300.0,
        gt=0,
        description="Seconds without an acknowledgement after which events are sent again.",
    )


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``; an IPv6 host stands in brackets. Raises `ValueError`.

    >>> split_address("[::1]:8790")
    ('::1', 8790)
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or (":" in host and not bracketed):
        raise ValueError(f"{address[:100]!r} is not HOST:PORT, for example 127.0.0.1:8790 or [::1]:8790")
    if int(port) > 65535:
        raise ValueError(f"Port {port[:10]} is above 65535")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine for sure: a loopback address or its fixed name.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in LOOPBACK_NAMES
