"""Bounds of a ``.kepler`` package that both ends know."""

from __future__ import annotations

SUFFIX = ".kepler"
CHUNK_BYTES = 1 << 20
MAX_BYTES = 2 * 2**30  # of the package, and of its files once unpacked: no zip64, no bomb
