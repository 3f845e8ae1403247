"""Takes each release from offered to committed, or back: the state machine of `docs/reference/mqtt.md`.

::

    offered -> preflight -> downloading -> verifying -> staged -> selftest -> [shadow ->] probation -> committed

and from any of them to refused (it had not begun to serve) or rolled-back (it had). A step is in the journal before its
effect; a new start goes on at the last row. What takes time runs beside the agent, in a thread or in the self-test's
process, and every state has a deadline and a number of starts, so that nothing stays half done.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from kepler_edge.clock import Clock
from kepler_edge.errors import InvalidInput, KeplerError
from kepler_edge.installs import ACTIVE, DEADLINES_S, INSTALLING, Installs, Parts, Trial
from kepler_edge.journal import NOT_WANTED, Journal, NotWritten, Row, Serving
from kepler_edge.keys import Trust
from kepler_edge.live import LiveModels
from kepler_edge.model import LoadedModel, Scored
from kepler_edge.release_doc import ID, MODEL, Release
from kepler_edge.selftest import SelfTest
from kepler_edge.slots import Fetch, Slots

MAX_BOOTS = 3
MAX_BOOTS_DOWNLOADING = 1_000  # a gateway may be switched off every night
RESERVE_BYTES = 64 << 20  # of disk that stay free: the outbox needs them more
MAX_REPORTED = 50


class Releases:
    """All releases of a device, and the models that serve.

    Parameters
    ----------
    home
        Folder of the device's state: ``releases.db`` and ``models/`` lie in it.
    trusted_keys
        Whose signatures hold.
    fetch
        Where files come from.
    clock
        Wall clock and whether it is set.
    on_transition
        Is told of every step after it is on the disk, again after a crash if it may have been missed. What it raises
        makes that step be told again later.
    journal, selftest, deadlines_s, reserve_bytes
        Other parts and bounds than the usual ones.
    """

    def __init__(
        self,
        home: Path,
        trusted_keys: Trust,
        *,
        fetch: Fetch,
        clock: Clock,
        on_transition: Callable[[dict[str, Any]], None],
        journal: Journal | None = None,
        selftest: Callable[[Path, Release, Trust], Trial] = SelfTest,
        deadlines_s: Mapping[str, float] = DEADLINES_S,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._slots = Slots(home)
        self._journal = journal or Journal(home / "releases.db")
        self._live = LiveModels(self._slots, trusted_keys)
        self._installs = Installs(
            Parts(
                self._journal, self._slots, self._live, trusted_keys, fetch, clock, on_transition, selftest,
                {**DEADLINES_S, **deadlines_s}, reserve_bytes,
            )
        )  # fmt: skip
        self._start()

    def serving(self) -> Mapping[str, LoadedModel]:
        """Models that answer now, by name. A new object after each change."""
        return self._live.serving

    def shadows(self) -> Mapping[str, LoadedModel]:
        """Models that score beside those, by name, and whose scores alert nobody."""
        return self._live.shadows

    def observe(
        self, model: LoadedModel | str, scored: Scored | None, error: BaseException | str | None = None
    ) -> None:
        """Tell of one scoring, of a model that serves or is a shadow: its result, or the error it ended with."""
        found = self._live.serving.get(model) if isinstance(model, str) else model
        watch = self._live.watches.get(found.release) if found is not None else None
        if watch is not None:
            watch.observe(scored, error)

    def reported(self) -> list[dict[str, Any]]:
        """The releases for the reported state."""
        with self._lock:
            in_use = {found.release for found in self._journal.serving().values() if not found.retired}
            kept = [row for row in self._journal.releases() if row.wanted or row.id in in_use]
        return [
            {
                "id": row.id,
                "model": row.model,
                "version": row.version,
                "state": row.state,
                "reason": row.reason,
            }
            for row in kept[:MAX_REPORTED]
        ]

    def settled(self) -> bool:
        """Whether no release is under way."""
        with self._lock:
            return not any(row.state in ACTIVE for row in self._journal.releases())

    def tick(self, wait_s: float = 0.02) -> bool:
        """Go on by one step at most; gives whether something changed. Waits up to ``wait_s`` for work to end."""
        with self._lock, contextlib.suppress(NotWritten):  # a full disk holds releases up and ends nothing
            self._installs.tell()
            installing = False
            for row in self._journal.releases():
                if row.state in INSTALLING:
                    if installing:
                        continue  # one after the other: small devices have one disk and one line
                    installing = True
                if row.state in ACTIVE and self._installs.advance(row, wait_s):
                    return True
        return False

    def desired(self, doc: Sequence[object] | Mapping[str, object]) -> list[str]:
        """Take in the releases that should serve; gives what is wrong with the document, for people.

        Models that it does not name stop serving; releases that it does not name are given up.
        """
        if isinstance(doc, Mapping):
            doc = cast("Sequence[object]", doc.get("releases", ()))
        problems: list[str] = []
        named: dict[str, Row] = {}
        for place, document in enumerate(doc):
            try:
                row = _read(document, place)
            except InvalidInput as error:
                problems.append(error.sentence)
                continue
            if any(row.model == other.model and other.state == "offered" for other in named.values()):
                row = replace(row, state="refused", reason="The desired state names its model twice")
            named.setdefault(row.id, row)
            problems += [row.reason] if row.reason else []
        with self._lock:
            known = {row.id: row for row in self._journal.releases()}
            for row in known.values():
                kept = named.get(row.id)
                if row.state in ACTIVE and (kept is None or kept.sha256 != row.sha256):
                    why = "It is no longer wanted" if kept is None else "Another document replaced it"
                    self._installs.fail(row, why)
            for row in named.values():
                self._name(known.get(row.id), row)
            self._journal.want({row.id: row.place for row in named.values()})
            self._retire({row.model for row in named.values()})
        return problems

    def _name(self, known: Row | None, row: Row) -> None:
        """Offer ``row`` unless it is known and needs nothing."""
        same = known is not None and known.sha256 == row.sha256
        if same and known is not None and known.state != "committed":
            return  # under way, or it failed and would again
        serving = self._journal.serving().get(row.model, Serving(row.model))
        if same and serving.release == row.id:
            if serving.retired:
                self._journal.serve(replace(serving, retired=False))
                self._installs.load_serving(row.model)
            return
        was = known.state if known is not None and known.state not in ACTIVE else "idle"
        self._journal.offer(row, was, self._clock.stamp().ts)
        self._installs.begin(row)
        self._installs.tell()

    def _retire(self, models: set[str]) -> None:
        """Models that nobody names any more stop serving; their files stay."""
        for serving in self._journal.serving().values():
            if serving.model not in models and serving.release and not serving.retired:
                self._journal.serve(replace(serving, retired=True))
                self._installs.load_serving(serving.model)

    def rollback(self, model: str) -> None:
        """Let the release before serve again. Raises `InvalidInput` where there is none."""
        why = "A rollback was asked for"
        with self._lock:
            for row in self._journal.releases():
                if row.model == model and row.state in ("shadow", "probation"):
                    self._installs.fail(row, why)
                    return
            serving = self._journal.serving().get(model, Serving(model))
            row = self._journal.release(serving.release)
            factory = not serving.before_slot and self._slots.has_factory(model)
            if row is None or serving.retired or not (serving.before_slot or factory):
                raise InvalidInput(f"Model {model[:100]!r} has nothing before it to go back to")
            try:
                if serving.before_slot:
                    self._live.open(model, serving.before_slot)  # it must load before the other goes
            except (KeplerError, OSError) as error:
                raise InvalidInput(
                    f"What served before {model!r} does not hold any more", cause=str(error)
                ) from error
            self._installs.step_back(serving, row, why)

    def close(self) -> None:
        """End what goes on beside the agent; a later start resumes it."""
        with self._lock:
            self._installs.stop_all()
            self._journal.close()

    def _start(self) -> None:
        """Load what serves, and count the start for what is under way."""
        if self._journal.lost:
            self._recover()
        with contextlib.suppress(NotWritten):
            self._journal.boot(ACTIVE)
        known = sorted(set(self._slots.models()) | set(self._journal.serving()))
        for model in known:
            self._installs.load_serving(model)
        for row in self._journal.releases():
            if row.state not in ACTIVE:
                continue
            self._installs.begin(row)
            most = MAX_BOOTS_DOWNLOADING if row.state in ("offered", "downloading") else MAX_BOOTS
            if row.boots > most:
                self._installs.fail(row, f"The agent was started {row.boots} times in the state {row.state}")
            elif row.state == "probation":  # it serves at once, not a tick later
                try:
                    self._installs.begin_probation(row, self._live.open(row.model, row.slot))
                except (KeplerError, OSError) as error:
                    self._installs.fail(row, f"Its files do not hold any more: {error}")
        for model in known:
            self._installs.tidy(model)
        self._installs.tell()

    def _recover(self) -> None:
        """The journal was damaged: what lies whole in the slots is taken over, the highest version first."""
        ts = self._clock.stamp().ts
        self._journal.number_from(int(ts))
        for model in self._slots.models():
            found: list[tuple[int, str, Release]] = []
            for slot in ("a", "b"):
                release = self._slots.held(model, slot)
                try:
                    self._live.open(model, slot)
                except (KeplerError, OSError):
                    continue
                if release is not None:
                    found.append((release.version, slot, release))
            if found:
                _, slot, release = max(found, key=lambda item: item[:2])
                reason = "The journal was damaged; this version was found whole"
                row = replace(_row(release, NOT_WANTED), state="committed", reason=reason, slot=slot)
                self._journal.offer(row, "idle", ts)
                self._journal.serve(Serving(model, slot, release.id))


def _row(release: Release, place: int) -> Row:
    return Row(
        release.id, release.model, release.version, release.text, release.sha256, "offered", "",
        slot="", boots=0, place=place,
    )  # fmt: skip


def _read(document: object, place: int) -> Row:
    """The row of a release; a refused one where it is wrong. Raises `InvalidInput` where it has not even a name."""
    try:
        return _row(Release.of(document), place)
    except InvalidInput as error:
        found = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
        release, model, version = found.get("id"), found.get("model"), found.get("version")
        if (
            not isinstance(release, str)
            or not isinstance(model, str)
            or len(model) > 220
            or not (ID.fullmatch(release) and MODEL.fullmatch(model))
            or not isinstance(version, int)
            or version < 1
        ):
            raise
        refused = error.sentence[:1000]
        return Row(release, model, int(version), "{}", "", "refused", refused, slot="", boots=0, place=place)
