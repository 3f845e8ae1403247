"""A search head with the built app: the splunkd stand-in, two users, and what the configuration page saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fakes.splunkd import Splunkd
from fakes.splunkd.secrets_store import SEPARATOR
from integration.splunk_app.talk import getinfo

CONF, STANZA = "kepler_settings", "service"
TOKEN = "installation-" + "x" * 3000
"""Longer than ten pieces, which splunkd lists in the order of text: the tenth before the second."""


def search_head(app: Path) -> Splunkd:
    """Not started yet. ``ana`` may train and predict, ``bob`` may only search; nothing is configured but a token."""
    splunkd = Splunkd({"kepler": app})
    splunkd.add_user("ana", "pw", capabilities=("kepler_train", "kepler_predict"))
    splunkd.add_user("bob", "pw")
    splunkd.set_app_secret("kepler", CONF, STANZA, {"token": TOKEN})
    realm = splunkd.secrets.ucc_realm("kepler", CONF)
    for other_realm, username in (
        (realm, f"other{SEPARATOR}1"),
        (realm, "plain"),
        ("x", f"{STANZA}{SEPARATOR}1"),
    ):
        splunkd.set_password("kepler", other_realm, username, '{"token": "wrong"}')
    return splunkd


def configure(splunkd: Splunkd, **fields: str) -> None:
    """Save fields of the configuration page."""
    splunkd.set_app_conf("kepler", CONF, STANZA, fields)


def saved(splunkd: Splunkd) -> dict[str, str]:
    """What the page shows: the token as asterisks."""
    app = splunkd.apps.get("kepler")
    assert app is not None
    return dict(app.conf(CONF)[STANZA])


def store_secret(splunkd: Splunkd, raw: str) -> None:
    """Replace the stored token by ``raw``, as it stands in its pieces; empty leaves none."""
    for secret in splunkd.secrets.all("kepler"):
        if secret.username.startswith(f"{STANZA}{SEPARATOR}") and secret.realm != "x":
            splunkd.secrets.remove(secret)
    if raw:
        splunkd.set_password(
            "kepler", splunkd.secrets.ucc_realm("kepler", CONF), f"{STANZA}{SEPARATOR}1", raw
        )


def grant(splunkd: Splunkd, user: str, *capabilities: str) -> None:
    """Give the user these capabilities beside those of the role user, and no others."""
    splunkd.accounts.users[user].extra_capabilities = set(capabilities)


def plan(splunkd: Splunkd, user: str, *args: str) -> dict[str, Any]:
    """getinfo of a search of ``user``; of one whom splunkd does not know, the session is none either."""
    known = user in splunkd.accounts.users
    key = splunkd.accounts.session_for(user) if known else "no-session"
    return getinfo(*args, splunkd_uri=splunkd.uri, session_key=key, username=user)
