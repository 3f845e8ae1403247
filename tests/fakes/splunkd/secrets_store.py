"""storage/passwords, and the encrypted fields that UCC's configuration pages keep there.

Sources: facts/splunk_app.md section 6; solnlib's credentials.py (repository
splunk/addonfactory-solutions-library-python) for how a value is split and ended.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass

SEPARATOR = "``splunk_cred_sep``"
END_MARK = SEPARATOR + SEPARATOR.join("SPLUNK") + SEPARATOR
PIECE = 255


@dataclass(frozen=True)
class Secret:
    app: str
    owner: str
    realm: str
    username: str
    clear: str

    @property
    def name(self) -> str:
        """`realm:username:` with colons inside either escaped, as the REST path has it."""
        return f"{self.realm.replace(':', chr(92) + ':')}:{self.username.replace(':', chr(92) + ':')}:"


class SecretStore:
    def __init__(self) -> None:
        self._secrets: dict[tuple[str, str, str], Secret] = {}
        self._lock = threading.Lock()

    def set(self, app: str, realm: str, username: str, clear: str, owner: str = "nobody") -> Secret:
        secret = Secret(app, owner, realm, username, clear)
        with self._lock:
            self._secrets[(app, realm, username)] = secret
        return secret

    def remove(self, secret: Secret) -> None:
        with self._lock:
            self._secrets.pop((secret.app, secret.realm, secret.username), None)

    def all(self, app: str | None) -> list[Secret]:
        """Those of one app, or of all where `app` is None or "-"."""
        with self._lock:
            return [s for s in self._secrets.values() if app in (None, "-", s.app)]

    def find(self, app: str | None, name: str) -> Secret | None:
        bare = name.rstrip(":")
        for secret in self.all(app):
            if secret.name == name or secret.name.strip(":") == bare.strip(":"):
                return secret
        return None

    # UCC's encrypted fields

    @staticmethod
    def ucc_realm(app: str, conf: str) -> str:
        return f"__REST_CREDENTIAL__#{app}#configs/conf-{conf}"

    def set_ucc(self, app: str, conf: str, stanza: str, values: dict[str, str]) -> None:
        """Keep a stanza's encrypted fields: one JSON dict, cut into pieces of 255 characters, then an end mark."""
        realm = self.ucc_realm(app, conf)
        for secret in self.all(app):
            if secret.realm == realm and secret.username.split(SEPARATOR)[0] == stanza:
                self.remove(secret)
        content = json.dumps(values)
        pieces = [content[i : i + PIECE] for i in range(0, len(content), PIECE)]
        for number, piece in enumerate([*pieces, END_MARK], start=1):
            self.set(app, realm, f"{stanza}{SEPARATOR}{number}", piece)

    def get_ucc(self, app: str, conf: str, stanza: str) -> dict[str, str]:
        realm = self.ucc_realm(app, conf)
        pieces: dict[int, str] = {}
        for secret in self.all(app):
            base, _, number = secret.username.partition(SEPARATOR)
            if secret.realm == realm and base == stanza and secret.clear != END_MARK:
                pieces[int(number or 0)] = secret.clear
        content = "".join(pieces[n] for n in sorted(pieces))
        return json.loads(content) if content else {}
