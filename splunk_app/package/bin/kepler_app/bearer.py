"""The token of one search's calls: asked for again before it ends, for searches outlast it."""

from __future__ import annotations

import math
import time

from kepler_app.errors import SearchError
from kepler_app.settings import Settings

RENEW_BEFORE_S = 60.0


class Bearer:
    """What `Settings.token` was, and after it what `Settings.renew` gives. Used by one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._take(settings)

    def _take(self, found: Settings) -> None:
        self._token = found.token
        left_s = math.inf
        if found.expires_at and found.renew is not None:
            # At least so long, or a search head whose clock is ahead would ask before every call. A token that
            # truly ends sooner is refused by the service, and then asked for again, too.
            left_s = max(found.expires_at - time.time(), 2 * RENEW_BEFORE_S)
        self._ends = time.monotonic() + left_s

    def metadata(self) -> dict[str, str]:
        """Metadata of a call that is made now. Raises `SearchError` when the token ended and none is given."""
        if time.monotonic() >= self._ends - RENEW_BEFORE_S:
            try:
                self.renew()
            except SearchError:
                if time.monotonic() >= self._ends:
                    raise
        return {"authorization": f"Bearer {self._token}"} if self._token else {}

    def renew(self) -> bool:
        """Ask for a new token; False where there is nobody to ask. Raises `SearchError` when it is refused."""
        if self._settings.renew is None or not self._token:
            return False
        found = self._settings.renew()
        if found.address != self._settings.address:
            raise SearchError(
                "The address of the Kepler service was changed while the search ran. Run the search again.",
                "Conflict",
            )
        self._take(found)
        return True
