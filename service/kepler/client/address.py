"""Where the service is and how a client proves itself, from arguments and ``KEPLER_*`` variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kepler.core.errors import InvalidInput

_HOST_PORT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_.-]+)):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port.

    >>> Address.parse("127.0.0.1:8790").loopback
    True
    >>> str(Address.parse("[::1]:8790"))
    '[::1]:8790'
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        return self.host in ("localhost", "::1") or bool(re.fullmatch(r"127(\.\d{1,3}){3}", self.host))

    @classmethod
    def parse(cls, text: str) -> Address:
        found = _HOST_PORT.fullmatch(text.strip())
        if not found or not 0 < int(found["port"]) < 65_536:
            raise InvalidInput(
                f"{text[:120]!r} is no service address",
                fix="Write it as host:port, for example 127.0.0.1:8790",
            )
        return cls(found["six"] or found["host"], int(found["port"]))


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the service: ``address`` empty means: find the one of ``home``, or start it."""

    home: Path
    address: str = ""
    token: str = field(default="", repr=False)
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    @classmethod
    def resolve(
        cls,
        *,
        address: str = "",
        home: str | os.PathLike[str] = "",
        token: str = "",
        ca_file: str = "",
        environment: Mapping[str, str] = os.environ,
    ) -> Access:
        """Arguments first, then ``KEPLER_ADDRESS``, ``KEPLER_HOME``, ``KEPLER_TOKEN``, ``KEPLER_CA_FILE``,
        and for mutual TLS ``KEPLER_CLIENT_CERT_FILE`` and ``KEPLER_CLIENT_KEY_FILE``.

        A home given as argument goes before ``KEPLER_ADDRESS``: it names another service.
        """
        at = address or ("" if home else environment.get("KEPLER_ADDRESS", ""))
        return cls(
            home=Path(home or environment.get("KEPLER_HOME", "") or Path.home() / ".kepler").expanduser(),
            address=str(Address.parse(at)) if at else "",
            token=token or environment.get("KEPLER_TOKEN", ""),
            ca_file=ca_file or environment.get("KEPLER_CA_FILE", ""),
            cert_file=environment.get("KEPLER_CLIENT_CERT_FILE", ""),
            key_file=environment.get("KEPLER_CLIENT_KEY_FILE", ""),
        )
