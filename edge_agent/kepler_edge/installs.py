"""What each state of a release does, and when it is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from kepler_edge import __version__
from kepler_edge.clock import Clock
from kepler_edge.errors import KeplerError, Refused
from kepler_edge.journal import Journal, NotWritten, Row, Serving
from kepler_edge.keys import Trust
from kepler_edge.live import LiveModels
from kepler_edge.model import LoadedModel
from kepler_edge.release_doc import Release
from kepler_edge.selftest import Report
from kepler_edge.slots import FACTORY, Fetch, Slots, check_files, download
from kepler_edge.work import Task

INSTALLING = ("offered", "preflight", "downloading", "verifying", "staged", "selftest")
ACTIVE = frozenset({*INSTALLING, "shadow", "probation"})
DEADLINES_S: Mapping[str, float] = {
    "offered": 30 * 86_400.0,  # behind others
    "preflight": 60.0,
    "downloading": 7 * 86_400.0,
    "verifying": 900.0,
    "staged": 60.0,
    "selftest": 300.0,
    "shadow": 300.0,  # beyond its own length
    "probation": 300.0,
}


class Trial(Protocol):
    """A self-test that goes on."""

    def poll(self) -> Report | None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class Parts:
    """What installing needs."""

    journal: Journal
    slots: Slots
    live: LiveModels
    trust: Trust
    fetch: Fetch
    clock: Clock
    on_transition: Callable[[dict[str, Any]], None]
    selftest: Callable[[Path, Release, Trust], Trial]
    deadlines_s: Mapping[str, float]
    reserve_bytes: int


class Installs:
    """Brings releases on, a step at a time. Not for several threads at once."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._journal, self._slots, self._live = parts.journal, parts.slots, parts.live
        self._clock = parts.clock
        self._since: dict[str, float] = {}  # monotonic start of a release's state in this process
        self._tasks: dict[str, Task[Any]] = {}
        self._trials: dict[str, Trial] = {}

    def advance(self, row: Row, wait_s: float) -> bool:
        """Go on with a release; gives whether its state changed. Waits up to ``wait_s`` for work to end."""
        since = self._since.setdefault(row.id, self._clock.mono())
        try:
            release = Release.load(row.document)
            limit_s = self._parts.deadlines_s[row.state]
            limit_s += {"shadow": release.shadow_s, "probation": release.probation_s}.get(row.state, 0.0)
            if self._clock.mono() - since > limit_s:
                raise Refused(f"It took longer than {limit_s:g} s in the state {row.state}")
            return self._states[row.state](self, row, release, wait_s)
        except NotWritten:
            raise
        except Exception as error:  # a release that brings anything down is given up, never the agent
            self.fail(
                row, error.sentence if isinstance(error, KeplerError) else f"{type(error).__name__}: {error}"
            )
            return True

    def _offered(self, row: Row, release: Release, wait_s: float) -> bool:
        return self.step(row, "preflight")

    def _preflight(self, row: Row, release: Release, wait_s: float) -> bool:
        serving = self._journal.serving().get(row.model, Serving(row.model))
        self._check_version(release, serving)
        if release.expires and self._clock.sync().sync and self._clock.stamp().ts > release.expires:
            raise Refused("The release has expired", fix="Deploy it again.")
        needed = release.limits.min_agent
        if _numbers(needed) > _numbers(__version__):
            raise Refused(f"It needs agent {needed} and this is {__version__}", fix="Update the agent.")
        free, reserve = self._slots.free_bytes(), self._parts.reserve_bytes
        if free < release.size + reserve:
            raise Refused(
                f"It has {release.size:,} bytes and the disk has {free:,} left",
                cause=f"{reserve:,} stay free for what is waiting to be sent",
                fix="Free space on the device.",
            )
        slot = self._slots.other(serving.slot) if serving.slot else "a"
        gone = replace(serving, before_slot="", before_release="")  # its slot is taken now
        return self.step(row, "downloading", slot=slot, serving=gone)

    def _check_version(self, release: Release, serving: Serving) -> None:
        """Versions rise, also above one that rests. Raises `Refused`."""
        if release.allow_downgrade:
            return
        row = self._journal.release(serving.release)
        factory = self._live.serving.get(release.model)
        if row is not None:
            version, sha256 = row.version, Release.load(row.document).manifest_sha256
        elif factory is not None:
            version, sha256 = factory.version, factory.manifest.sha256
        else:
            return
        # The same version may come again with other thresholds or bindings.
        if release.version < version or (release.version == version and release.manifest_sha256 != sha256):
            raise Refused(
                f"Version {release.version} does not follow version {version}, which serves",
                fix="Deploy a newer version, or allow the downgrade.",
            )

    def _downloading(self, row: Row, release: Release, wait_s: float) -> bool:
        folder = self._slots.begin(row.slot, release)
        beside = self._slots.folder(row.model, self._slots.other(row.slot))
        done, came = self._work(
            row, wait_s, lambda stop: download(folder, release, self._parts.fetch, stop, beside=beside)
        )
        return done and self.step(row, "verifying", data={"bytes": came})

    def _verifying(self, row: Row, release: Release, wait_s: float) -> bool:
        done, _ = self._work(row, wait_s, lambda stop: self._verify(row, release))
        return done and self.step(row, "staged")

    def _verify(self, row: Row, release: Release) -> None:
        """Signature, names and hashes of all files, and the graph's operators, before any model runs."""
        folder = self._slots.folder(row.model, row.slot)
        check_files(folder, release)
        manifest, _ = LoadedModel.read(folder, self._parts.trust)
        if (manifest.name, manifest.version) != (release.model, release.version):
            raise Refused(
                f"The files are {manifest.name[:220]}@{manifest.version}, not {release.model}@{release.version}"
            )
        if manifest.model_file != release.files[2].path:
            raise Refused("The release's first file is not the model's")

    def _staged(self, row: Row, release: Release, wait_s: float) -> bool:
        return self.step(row, "selftest")

    def _selftest(self, row: Row, release: Release, wait_s: float) -> bool:
        trial = self._trials.get(row.id)
        if trial is None:
            folder = self._slots.folder(row.model, row.slot)
            trial = self._trials[row.id] = self._parts.selftest(folder, release, self._parts.trust)
        report = trial.poll()
        if report is None:
            time.sleep(wait_s)
            report = trial.poll()
        if report is None:
            return False
        del self._trials[row.id]
        if report.reason:
            self.fail(row, report.reason, report.figures)
            return True
        shadow = release.shadow_s > 0 and row.model in self._live.serving
        return self.step(row, "shadow" if shadow else "probation", data=report.figures)

    def _shadow(self, row: Row, release: Release, wait_s: float) -> bool:
        if row.model not in self._live.shadows:
            done, model = self._work(row, wait_s, lambda stop: self._live.open(row.model, row.slot))
            if done:
                self._live.shadow(model)
                self._since[row.id] = self._clock.mono()
            return False
        return self._judged(row, release) or (
            self._lasted(row, release.shadow_s)
            and self.step(row, "probation", data=self._live.watches[row.id].figures)
        )

    def _probation(self, row: Row, release: Release, wait_s: float) -> bool:
        serves = self._live.serving.get(row.model)
        if serves is None or serves.release != row.id:
            model = self._live.shadows.get(row.model)
            if model is None:
                _, model = self._work(row, wait_s, lambda stop: self._live.open(row.model, row.slot))
            if model is not None:
                self.begin_probation(row, model)
            return False
        if self._judged(row, release):
            return True
        if not self._lasted(row, release.probation_s):
            return False
        was = self._journal.serving().get(row.model, Serving(row.model))
        now = Serving(row.model, row.slot, row.id, was.slot, was.release)
        self.step(row, "committed", data=self._live.watches[row.id].figures, serving=now)
        self._live.keep(serves)
        return True

    def begin_probation(self, row: Row, model: LoadedModel) -> None:
        """Let ``model`` serve under watch."""
        self._live.probation(model)
        self._since[row.id] = self._clock.mono()

    def _judged(self, row: Row, release: Release) -> bool:
        """Whether a gate ended it."""
        watch = self._live.watches[row.id]
        reason = watch.verdict(release.gates)
        if reason:
            self.fail(row, reason, watch.figures)
        return bool(reason)

    def _lasted(self, row: Row, seconds: float) -> bool:
        return self._clock.mono() - self._since[row.id] >= seconds

    _states = {  # noqa: RUF012 - read only
        "offered": _offered,
        "preflight": _preflight,
        "downloading": _downloading,
        "verifying": _verifying,
        "staged": _staged,
        "selftest": _selftest,
        "shadow": _shadow,
        "probation": _probation,
    }

    def begin(self, row: Row) -> None:
        """Its state begins now."""
        self._since[row.id] = self._clock.mono()

    def step(
        self,
        row: Row,
        now: str,
        *,
        reason: str = "",
        data: Mapping[str, Any] | None = None,
        slot: str | None = None,
        serving: Serving | None = None,
    ) -> bool:
        """Write a step down, then tell of it; its effect is the next tick's."""
        stamp = self._clock.stamp()
        self._journal.step(row, now, ts=stamp.ts, reason=reason[:1000], data=data, slot=slot, serving=serving)
        self._since[row.id] = stamp.mono
        self.tell()
        return True

    def fail(self, row: Row, reason: str, data: Mapping[str, Any] | None = None) -> None:
        """Give a release up: what served before it serves again."""
        began = row.state == "probation"
        self.step(row, "rolled-back" if began else "refused", reason=reason, data=data, slot="")
        self.stop(row.id)
        if not self._live.undo(row.id, row.model):
            self.load_serving(row.model)
        self.tidy(row.model)

    def step_back(self, serving: Serving, row: Row, reason: str) -> None:
        """From a committed release to the one before it."""
        earlier = Serving(serving.model, serving.before_slot, serving.before_release)
        self.step(row, "rolled-back", reason=reason, slot="", serving=earlier)
        self.load_serving(serving.model)
        self.tidy(serving.model)

    def tell(self) -> None:
        """Tell of steps that nobody was told of."""
        for step in self._journal.untold():
            try:
                self._parts.on_transition(step.told())
            except Exception:  # whatever the listener's trouble is, the step stays untold and comes again
                return
            self._journal.tell(step.n)

    def load_serving(self, model: str) -> None:
        """Let what the journal names serve, or the factory's model, or none."""
        serving = self._journal.serving().get(model, Serving(model))
        if serving.slot and not serving.retired:
            try:
                self._live.put(model, self._live.open(model, serving.slot))
                return
            except (KeplerError, OSError) as error:
                row = self._journal.release(serving.release)
                if row is not None:
                    self._live.put(model, None)
                    self.step_back(serving, row, f"Its files do not hold any more: {error}")
                    return
        found = None
        if not serving.retired and self._slots.has_factory(model):
            try:
                found = self._live.open(model, FACTORY)
            except (KeplerError, OSError):
                found = None  # nothing is left to go back to: the reported state shows that nothing serves
        self._live.put(model, found)

    def tidy(self, model: str) -> None:
        """Delete slots that nothing refers to."""
        serving = self._journal.serving().get(model, Serving(model))
        kept = {serving.slot, serving.before_slot}
        kept |= {row.slot for row in self._journal.releases() if row.model == model and row.state in ACTIVE}
        for slot in ("a", "b"):
            if slot not in kept:
                self._slots.empty(model, slot)

    def stop(self, release: str) -> None:
        """End what goes on for a release."""
        if (task := self._tasks.pop(release, None)) is not None:
            task.stop()
        if (trial := self._trials.pop(release, None)) is not None:
            trial.stop()

    def stop_all(self) -> None:
        for release in [*self._tasks, *self._trials]:
            self.stop(release)

    def _work(self, row: Row, wait_s: float, work: Callable[[threading.Event], Any]) -> tuple[bool, Any]:
        """Do ``work`` beside the agent: (whether it has ended, what it gave). Raises what it raised."""
        task = self._tasks.get(row.id)
        if task is None:
            task = self._tasks[row.id] = Task(work)
        if not task.wait(wait_s):
            return False, None
        del self._tasks[row.id]
        return True, task.result()


def _numbers(version: str) -> tuple[int, ...]:
    """``1.10.2`` as numbers, to compare."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())
