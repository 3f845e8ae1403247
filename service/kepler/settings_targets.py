"""Sections of the settings that deploy targets read."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from kepler.settings_sections import Section

_URL = r"^https?://\S+$"
_WORD = r"^\S*$"


class BarbaraSettings(Section):
    """Barbara's platform, for the deploy target ``barbara``."""

    api_url: str = Field(
        default="https://prod.bap.barbara.tech", pattern=_URL, description="Address of Barbara's API."
    )
    auth_url: str = Field(
        default="https://prod.auth.barbara.tech/auth",
        pattern=_URL,
        description="Address of its login; some installations have it without /auth.",
    )
    realm: str = Field(default="bbr_prod", pattern=_WORD, description="Realm of the login.")
    client_id: str = Field(default="", pattern=_WORD, description="Client id that Barbara's support gave.")
    client_secret: str = Field(
        default="barbara-client-secret",
        pattern=_WORD,
        description="Name of the secret that holds the client's secret (`kepler secret set`).",
    )
    username: str = Field(default="", pattern=_WORD, description="User that deploys.")
    password: str = Field(
        default="barbara-password",
        pattern=_WORD,
        description="Name of the secret that holds the user's password.",
    )
    image: str = Field(
        default="kepler-edge:0.1.0",
        pattern=_WORD,
        description="The agent's image, as the nodes pull it.",
    )
    timeout_s: float = Field(
        default=60.0, gt=0, description="Seconds to wait for an answer; uploads get ten times that."
    )


class EdgeHubSettings(Section):
    """Splunk Edge Hub, for the deploy target ``splunk-edge-hub``."""

    image_archive_file: Path | None = Field(
        default=None,
        description="The agent's image for arm64 as `docker save` wrote it; bundles hold it with the model on top.",
    )
