"""A service with TLS and tokens, beside the open one of tests/conftest.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from kepler.adapters.security.home import HomeSecurity
from kepler.adapters.security.tls import DevelopmentCertificates, make_self_signed
from kepler.bootstrap import SystemClock
from support.running_service import RunningService, running


@dataclass
class SecuredService:
    """A service that asks for TLS and tokens; ``mint`` makes tokens on its home."""

    running: RunningService
    certificates: DevelopmentCertificates
    security: HomeSecurity

    def channel(self) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(self.certificates.ca.read_bytes())
        return grpc.secure_channel(self.running.grpc, credentials)

    def mint(self, *capabilities: str, user: str = "ana", ttl_s: float = 0.0) -> str:
        return self.security.tokens.create("test", user, frozenset(capabilities), ttl_s)[1]


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredService]:
    home: Path = tmp_path_factory.mktemp("secured")
    certificates = make_self_signed(home, ["127.0.0.1", "localhost"])
    security = HomeSecurity(home, "file", SystemClock())
    env = {
        "KEPLER_TLS__CERT_FILE": str(certificates.server_cert),
        "KEPLER_TLS__KEY_FILE": str(certificates.server_key),
        "KEPLER_REQUIRE_TOKEN": "true",
    }
    with running(home, env=env) as service:
        yield SecuredService(service, certificates, security)
    security.close()
