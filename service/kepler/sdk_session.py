"""The connection behind the SDK: one by default, made when it is first needed."""

from __future__ import annotations

import threading

from kepler.client import Access, KeplerClient

_lock = threading.Lock()
_default: KeplerClient | None = None


def default_client() -> KeplerClient:
    """The client of the last `kepler.connect`, else one that finds or starts the service."""
    global _default
    with _lock:
        if _default is None:
            _default = KeplerClient(Access.resolve())
        return _default


def set_default(client: KeplerClient | None) -> None:
    """Use ``client`` from now on; None connects anew when needed."""
    global _default
    with _lock:
        _default = client
