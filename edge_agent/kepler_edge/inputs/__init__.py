"""Where readings come from. Each input is one file; the settings name it by ``kind``."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from kepler_edge.errors import InvalidInput
from kepler_edge.reading import Reading

Emit = Callable[[Reading], None]
KINDS = {"file": "file", "mqtt": "mqtt", "sparkplug": "sparkplug", "edgehub": "edgehub"}


class Input(Protocol):
    """Something that reads.

    Attributes
    ----------
    name
        As the settings call it.
    counts
        What it read, what was wrong, what was dropped: for diagnostics.
    """

    name: str
    counts: dict[str, int]

    def run(self, emit: Emit, stop: threading.Event) -> None:
        """Hand over readings until ``stop`` or until there are no more. Blocks; belongs in a thread of its own."""
        ...


def open_input(settings: Mapping[str, object]) -> Input:
    """The input that ``settings`` describe (one of the agent's ``inputs``). Raises `InvalidInput`."""
    kind = settings.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidInput(f"An input's kind is one of {', '.join(KINDS)}, not {str(kind)[:40]!r}")
    try:
        module: Any = importlib.import_module(f"kepler_edge.inputs.{KINDS[kind]}")
    except ImportError as error:  # grpc and protobuf come with extras
        raise InvalidInput(
            f"The input {kind!r} is not installed", cause=str(error), fix=f"Install `kepler-edge[{kind}]`."
        ) from error
    opened: Input = module.open_input(settings)
    return opened
