"""What an input hands over: the fields of one source at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """Fields read together.

    Attributes
    ----------
    source
        Name of the input that read them: one of the settings, or an MQTT topic.
    fields
        Values by name: numbers, texts, booleans or None.
    ts
        When they were measured, seconds since the epoch by the device's or the machine's wall clock. None where
        the payload does not say; the agent then takes the time of arrival.
    """

    source: str
    fields: dict[str, object]
    ts: float | None = None
