"""Where the service is, how to trust it, and with what token.

``KEPLER_ADDRESS`` (with ``KEPLER_TOKEN``, ``KEPLER_CA_FILE``, ``KEPLER_CLIENT_CERT_FILE`` and
``KEPLER_CLIENT_KEY_FILE``) overrides everything, and splunkd is then never called. Otherwise the app's token broker tells: see `kepler_app.tokens`.
"""

from __future__ import annotations

import os
import re

from kepler_app import paths
from kepler_app.errors import SearchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kepler_app.searchinfo import SearchInfo

DEFAULT_PORT = 8790
STANZA = "service"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Settings:
    """How to reach the service.

    Parameters
    ----------
    address
        ``host:port``.
    token
        Bearer token; empty on loopback without TLS.
    ca_pem
        Certificate authorities to trust, PEM text; empty for the system's own.
    source
        "environment" or "app", for keplerhealth.
    cert_file, key_file
        PEM files on this machine with the certificate to show and its key, where the service asks for one (mTLS).
    expires_at
        When the token ends, seconds since the epoch; 0 when it does not or nobody knows.
    renew
        Gives settings with a new token; None where there is nobody to ask.
    """

    def __init__(
        self,
        address: str,
        token: str = "",
        ca_pem: str = "",
        source: str = "app",
        *,
        cert_file: str = "",
        key_file: str = "",
        expires_at: float = 0.0,
        renew: Callable[[], Settings] | None = None,
    ) -> None:
        self.host, self.port = split_address(address)
        self.token = token
        self.ca_pem = ca_pem
        self.source = source
        self.cert_file = cert_file
        self.key_file = key_file
        self.expires_at = expires_at
        self.renew = renew

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def tls(self) -> bool:
        """TLS always, except to this machine itself when no CA is set."""
        return bool(self.ca_pem) or not is_loopback(self.host)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port``, ``host`` or ``[v6]:port``.

    >>> split_address("[::1]:9000")
    ('::1', 9000)
    """
    text = address.strip()
    host, colon, port = text.rpartition(":")
    if (
        not colon
        or (text.startswith("[") and text.endswith("]"))
        or (":" in host and not host.startswith("["))
    ):
        host, port = text, str(DEFAULT_PORT)
    host = host.strip("[]")
    if (
        not host
        or any(char.isspace() or char == "/" for char in text)
        or not port.isdigit()
        or not 0 < int(port) < 65536
    ):
        raise SearchError(
            f"The service address {address[:80]!r} is not host:port. Correct it on the app's configuration page, "
            f"for example kepler.example.com:{DEFAULT_PORT}."
        )
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine by its literal name or number; nothing is looked up."""
    if host.lower() == "localhost":
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _certificates(text: str) -> str:
    """The certificates in ``text`` and nothing else: files like server.pem hold a private key as well."""
    return "".join(f"{block}\n" for block in _CERTIFICATE.findall(text))


def read_ca(ca: str) -> str:
    """PEM text of ``ca``, which is PEM text itself or the path of a file: its certificates only."""
    ca = ca.strip()
    if not ca:
        return ""
    if "-----BEGIN" in ca:
        found = _certificates(ca)
        if not found:
            raise SearchError("The CA certificate is not valid PEM text. Paste the whole certificate again.")
        return found
    try:
        with open(ca, encoding="ascii") as file:
            text = file.read()
    except (OSError, ValueError) as error:
        raise SearchError(
            f"The CA certificate file {ca!r} cannot be read ({getattr(error, 'strerror', None) or 'it is not PEM text'}). "
            "Correct the path or paste the certificate."
        ) from error
    found = _certificates(text)
    if not found:
        raise SearchError(
            f"The file {ca!r} holds no certificate in PEM form. Give the service's CA certificate."
        )
    return found


def from_environment() -> Settings | None:
    """Settings of the ``KEPLER_*`` variables; None when ``KEPLER_ADDRESS`` is not set."""
    address = os.environ.get("KEPLER_ADDRESS", "").strip()
    if not address:
        return None

    def value(name: str) -> str:
        return os.environ.get(name, "").strip()

    return Settings(
        address,
        value("KEPLER_TOKEN"),
        read_ca(value("KEPLER_CA_FILE")),
        source="environment",
        cert_file=value("KEPLER_CLIENT_CERT_FILE"),
        key_file=value("KEPLER_CLIENT_KEY_FILE"),
    )


def load(info: SearchInfo) -> Settings:
    """Settings for the search ``info``: the environment's, else what the token broker gives its user."""
    found = from_environment()
    if found is not None:
        return found
    from kepler_app import tokens

    return tokens.ask(info)


def transfer() -> str:
    """ "auto" or "full": whether keplerpredict may ask for the model's fields only.

    Read at each planning run, so from ``KEPLER_TRANSFER`` or the app's own files and without splunkd.
    """
    value = os.environ.get("KEPLER_TRANSFER", "") or paths.conf_value(STANZA, "transfer")
    return "full" if value.strip().lower() == "full" else "auto"
