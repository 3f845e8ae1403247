"""Addresses that let one device fetch one version's files: implements `ports.deploy.FileLinks`.

The right to fetch is part of the path, because agents join file names to an address. It names the device and when
it ends, so a copied address is worth little, and a device that was revoked is refused whatever it holds.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets as random
from urllib.parse import quote

from kepler.core.errors import Denied
from kepler.core.names import ModelName
from kepler.fleet.devices import DEVICE_ID
from kepler.ports.clock import Clock
from kepler.ports.security import SecretStore

SECRET_NAME = "kepler.fleet-link-key"  # noqa: S105 - the name of a secret, not one
PATH = "/v1/edge/models"
MAX_TICKET_CHARS = 200
_MAC_BYTES = 24


class SignedLinks:
    """``public_url`` is the service's HTTPS address as devices reach it; empty where they cannot."""

    def __init__(self, secrets: SecretStore, clock: Clock, public_url: str) -> None:
        stored = secrets.setdefault(SECRET_NAME, base64.b64encode(random.token_bytes(32)).decode())
        self._key = base64.b64decode(stored)
        self._clock = clock
        self._base = public_url.rstrip("/")

    def folder_url(self, device: str, model: str, version: int, expires: float) -> str:
        if not self._base:
            return ""
        flat = ModelName.parse(model).flat
        ticket = f"{device}.{int(expires)}.{self._mac(device, model, version, int(expires))}"
        return f"{self._base}{PATH}/{quote(flat)}/{version}/{ticket}"

    def device_of(self, model: str, version: int, ticket: str) -> str:
        """Whose ticket it is. Raises `Denied` for one that does not hold for this version, or holds no more."""
        device, _, rest = ticket[:MAX_TICKET_CHARS].partition(".")
        expires, _, mac = rest.partition(".")
        if DEVICE_ID.fullmatch(device) and expires.isascii() and expires.isdigit() and len(expires) <= 12:
            wanted = self._mac(device, model, version, int(expires))
            if (
                hmac.compare_digest(wanted, mac.encode("ascii", "replace").decode())
                and int(expires) > self._clock.now()
            ):
                return device
        raise Denied("This address holds no more", fix="The device asks for the files over MQTT then.")

    def _mac(self, device: str, model: str, version: int, expires: int) -> str:
        text = f"{device}\0{model}\0{version}\0{expires}"
        digest = hmac.digest(self._key, text.encode(), hashlib.sha256)[:_MAC_BYTES]
        return base64.urlsafe_b64encode(digest).decode()
