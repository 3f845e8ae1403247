"""The searching user's way to a token: the app's broker, asked with the user's own session key."""

from __future__ import annotations

import json

from kepler_app.errors import SearchError
from kepler_app.searchinfo import SearchInfo
from kepler_app.settings import Settings
from kepler_app.splunkd import Refused, Splunkd

BROKER = "/services/kepler/token"
_NEXT = "Ask a Splunk administrator."


def ask(info: SearchInfo) -> Settings:
    """Address, CA and a token of at most ten minutes for the user of ``info``."""
    if not info.splunkd_uri or not info.session_key:
        raise SearchError(
            "The command knows no service: KEPLER_ADDRESS is not set and the search has no session with splunkd.",
            "NotReady",
        )
    try:
        answer = Splunkd(info.splunkd_uri, info.session_key).post(BROKER)
    except Refused as error:
        raise _explain(error) from error
    expires_at = answer.get("expires_at")
    return Settings(
        str(answer.get("address", "")),
        str(answer.get("token", "")),
        str(answer.get("ca_pem", "")),
        cert_file=str(answer.get("cert_file", "")),
        key_file=str(answer.get("key_file", "")),
        expires_at=float(expires_at) if isinstance(expires_at, (int, float)) else 0.0,
        renew=lambda: ask(info),
    )


def _explain(error: Refused) -> SearchError:
    """What the broker said, or what the status means when splunkd itself refused."""
    try:
        said = json.loads(error.body)
        sentence = said.get("error") if isinstance(said, dict) else None
    except ValueError:
        sentence = None
    if isinstance(sentence, str) and sentence:
        return SearchError(sentence, str(said.get("code", "")) or "Unavailable")
    if error.status in (401, 403):
        return SearchError(
            "Your Splunk roles hold none of the capabilities kepler_predict, kepler_train, kepler_deploy and "
            f"kepler_admin. {_NEXT}",
            "Denied",
        )
    if error.status == 404:
        return SearchError(
            f"The Kepler app's token broker is not there; splunkd needs a restart. {_NEXT}", "NotReady"
        )
    return SearchError(
        f"The Kepler app's token broker failed with HTTP status {error.status}. {_NEXT}", "Unavailable"
    )
