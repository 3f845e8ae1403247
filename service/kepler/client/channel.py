"""Opens the gRPC channel: TLS unless the address is loopback and no CA is set."""

from __future__ import annotations

from pathlib import Path

import grpc

from kepler.client.address import Access, Address
from kepler.client.constants import CLIENT_OPTIONS
from kepler.core.errors import InvalidInput


def open_channel(access: Access, address: Address) -> grpc.Channel:
    """A channel to ``address``; nothing is connected before the first call."""
    if address.loopback and not access.ca_file:
        return grpc.insecure_channel(str(address), options=CLIENT_OPTIONS)
    if bool(access.cert_file) != bool(access.key_file):
        raise InvalidInput(
            "Mutual TLS needs a certificate and its key",
            fix="Set both KEPLER_CLIENT_CERT_FILE and KEPLER_CLIENT_KEY_FILE",
        )
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_pem(access.ca_file, "KEPLER_CA_FILE"),
        private_key=_pem(access.key_file, "KEPLER_CLIENT_KEY_FILE"),
        certificate_chain=_pem(access.cert_file, "KEPLER_CLIENT_CERT_FILE"),
    )
    return grpc.secure_channel(str(address), credentials, options=CLIENT_OPTIONS)


def _pem(path: str, setting: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read", cause=error.strerror or str(error), fix=f"Correct {setting}"
        ) from error
