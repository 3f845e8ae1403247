"""What the device should be, as the service says, and what it reports to be."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, cast

from .credentials import Credentials
from .durable import Durable, write_atomically
from .errors import InvalidInput, KeplerError
from .keys import public_from_base64
from .log import Log

DESIRED_FILE = "desired.json"


class WantedReleases(Protocol):
    """The part of the releases that is needed here."""

    def desired(self, doc: Mapping[str, object]) -> list[str]:
        """Takes the releases that should serve; what is wrong with them."""
        ...

    def reported(self) -> list[dict[str, object]]:
        """How far each is."""
        ...

    def settled(self) -> bool:
        """Whether none is under way."""
        ...


class Shadow:
    """Desired state in, reported state out. A revision is on the disk before anything of it is done."""

    def __init__(
        self,
        home: Path,
        device: str,
        durable: Durable,
        credentials: Credentials,
        releases: WantedReleases,
        log: Log,
        apply_settings: Callable[[Mapping[str, object]], list[str]],
    ) -> None:
        self._path = home / DESIRED_FILE
        self._device = device
        self._durable = durable
        self._credentials = credentials
        self._releases = releases
        self._log = log
        self._apply_settings = apply_settings
        self._error = ""
        self.ignored = 0

    @property
    def paused(self) -> bool:
        """Whether scoring rests."""
        return self._durable.get("paused") is True

    def pause(self, paused: bool) -> None:
        """Lets scoring rest or go on, over restarts too."""
        self._durable.put(paused=paused)

    def resume(self) -> None:
        """After a start: does again what a crash may have left half done."""
        try:
            found: object = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return
        except ValueError:
            self._log.error("desired.broken", fix="The service's retained message will replace it.")
            self._durable.put(rev_seen=0, rev_applied=0)
            return
        if not isinstance(found, dict):
            return
        document = cast("dict[str, object]", found)
        if self._durable.number("rev_applied") < self._durable.number("rev_seen"):
            self._apply(self._durable.number("rev_seen"), document)
        else:
            settings = document.get("settings")
            if isinstance(settings, dict):
                self._apply_settings(cast("dict[str, object]", settings))

    def take(self, message: dict[str, object]) -> bool:
        """Takes a `desired` message whose signature held. False when it says nothing new.

        Raises
        ------
        InvalidInput
            When it is not for this device, or no desired state.
        """
        rev, doc = message.get("rev"), message.get("doc")
        if message.get("v") != 1 or message.get("device") != self._device:
            raise InvalidInput("A desired state of another version or for another device")
        if (
            not isinstance(rev, int)
            or isinstance(rev, bool)
            or not 1 <= rev < 2**53
            or not isinstance(doc, dict)
        ):
            raise InvalidInput("A desired state without revision or document")
        if rev <= self._durable.number("rev_seen"):
            self.ignored += 1
            return False
        document = cast("dict[str, object]", doc)
        if not isinstance(document.get("releases"), list):
            raise InvalidInput("A desired state without releases")
        # Document first: a revision that is seen and has no document could not be done again.
        write_atomically(self._path, json.dumps(document).encode())
        self._durable.put(rev_seen=rev)
        self._apply(rev, document)
        return True

    def _apply(self, rev: int, document: dict[str, object]) -> None:
        problems: list[str] = []
        trust = document.get("trust")
        if isinstance(trust, list) and trust:
            try:
                self._credentials.believe(
                    [public_from_base64(str(key)) for key in cast("list[object]", trust)]
                )
            except KeplerError as error:
                problems.append(error.sentence)
        paused = document.get("paused")
        if isinstance(paused, bool):
            self.pause(paused)
        settings = document.get("settings")
        if isinstance(settings, dict):
            problems += self._apply_settings(cast("dict[str, object]", settings))
        problems += self._releases.desired(document)
        self._error = " ".join(problems)[:1000]
        self._durable.put(rev_applied=rev)
        self._log.info("desired.applied", rev=rev, problems=self._error or None)

    def reported(self) -> dict[str, object]:
        """The contract's `reported`."""
        releases = self._releases.reported()
        if self.paused:
            status = "paused"
        elif not self._releases.settled():
            status = "applying"
        elif self._error or any(one.get("state") in ("refused", "rolled-back") for one in releases):
            status = "failed"
        else:
            status = "in-step"
        return {
            "v": 1,
            "rev_seen": self._durable.number("rev_seen"),
            "rev_applied": self._durable.number("rev_applied"),
            "status": status,
            "releases": releases,
            "error": self._error,
        }
