"""A service as it stands in production: mutual TLS and tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kepler.adapters.security.home import HomeSecurity
from kepler.adapters.security.tls import DevelopmentCertificates, make_self_signed
from kepler.bootstrap import SystemClock
from kepler.client import KeplerClient
from support.running_service import RunningService, running
from support.service_client import connect


@dataclass
class MutualService:
    """A service that asks for client certificates and tokens."""

    running: RunningService
    tls: DevelopmentCertificates
    security: HomeSecurity

    def mint(self, *capabilities: str, user: str = "ana") -> str:
        return self.security.tokens.create("test", user, frozenset(capabilities), 0.0)[1]

    def connect(self, *capabilities: str, user: str = "ana") -> KeplerClient:
        return connect(
            self.running, token=self.mint(*capabilities, user=user), ca=self.tls.ca,
            cert=self.tls.client_cert, key=self.tls.client_key, user=user,
        )  # fmt: skip


@pytest.fixture(scope="session")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MutualService]:
    home = tmp_path_factory.mktemp("mutual")
    tls = make_self_signed(home, ["127.0.0.1", "localhost"])
    security = HomeSecurity(home, "file", SystemClock())
    env = {
        "KEPLER_TLS__CERT_FILE": str(tls.server_cert),
        "KEPLER_TLS__KEY_FILE": str(tls.server_key),
        "KEPLER_TLS__CLIENT_CA_FILE": str(tls.ca),
        "KEPLER_REQUIRE_TOKEN": "true",
    }
    with running(home, env=env) as service:
        yield MutualService(service, tls, security)
    security.close()
