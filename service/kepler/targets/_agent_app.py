"""What every container with the agent begins with, whichever platform runs it."""

from __future__ import annotations

# The home is kept on the platform's own storage; the factory's model comes with each version of the image.
# A join token is used once, and not kept in the agent's environment.
START = """#!/bin/sh
set -eu
mkdir -p "$KEPLER_EDGE_HOME/models"
cp -R /factory/. "$KEPLER_EDGE_HOME/models/"
if [ ! -f "$KEPLER_EDGE_HOME/enrolment.json" ] && [ -n "${KEPLER_EDGE_JOIN_TOKEN:-}" ]; then
  printf '%s\\n' "$KEPLER_EDGE_JOIN_TOKEN" |
    kepler-edge enrol --service "$KEPLER_EDGE_SERVICE" --ca "${KEPLER_EDGE_SERVICE_CA:-/appconfig/service-ca.pem}"
fi
unset KEPLER_EDGE_JOIN_TOKEN
exec kepler-edge run
"""


def factory_folder(model: str) -> str:
    """Where a model lies in an image, as the agent's slots name it."""
    return f"factory/{model.replace('/', '~')}/factory"
