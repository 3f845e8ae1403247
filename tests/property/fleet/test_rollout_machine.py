"""Whatever devices and people do, a rollout keeps its promises and comes to an end."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kepler.core.errors import Conflict
from kepler.fleet import rollouts
from kepler.fleet.rollouts import DevicePart, OnError, Part, Rollout, RolloutPlan, RolloutState

STEPS = ("preflight", "downloading", "selftest", "probation", "committed", "refused", "rolled-back")


class RolloutMachine(RuleBasedStateMachine):
    @initialize(
        devices=st.integers(1, 12),
        stages=st.sampled_from([(1.0,), (0.1, 1.0), (0.1, 0.5, 1.0), (0.2, 0.4, 0.6, 1.0)]),
        success=st.sampled_from([0.5, 0.9, 1.0]),
        error=st.sampled_from([0.0, 0.1, 0.5]),
        on_error=st.sampled_from(OnError),
        soak=st.sampled_from([0.0, 5.0]),
    )
    def begin(
        self,
        devices: int,
        stages: tuple[float, ...],
        success: float,
        error: float,
        on_error: OnError,
        soak: float,
    ) -> None:
        plan = RolloutPlan(stages, success, error, on_error, device_s=50.0, soak_s=soak, total_s=500.0)
        names = [f"gw-{number}" for number in range(devices)]
        self.now = 1000.0
        self.parts = {part.device: part for part in rollouts.assign(names, plan, "seed")}
        self.rollout = Rollout("r", "r-v2", "app.search/m", 2, "*", plan, "ana", created_at=self.now)
        self.serves = dict.fromkeys(names, "old")
        self.steps = dict.fromkeys(names, 0)
        self.was_final = ""

    def _take(self, rollout: Rollout, changed: list[DevicePart]) -> None:
        self.rollout = rollout
        self.parts |= {part.device: part for part in changed}

    @rule()
    def look(self) -> None:
        """What the driver does: advance, write desired states, advance again."""
        self._take(*rollouts.advance(self.rollout, list(self.parts.values()), self.now))
        for part in list(self.parts.values()):
            if part.part is Part.CHOSEN:
                assert not self.rollout.state.final
                self.serves[part.device] = "new"
                self.parts[part.device] = rollouts.offered(part, self.now)
        for part in rollouts.to_withdraw(self.rollout, list(self.parts.values())):
            self.serves[part.device] = "old"
            self.parts[part.device] = rollouts.withdrawn(part, self.now)

    @rule(number=st.integers(0, 11), step=st.sampled_from(STEPS), again=st.booleans())
    def device_tells(self, number: int, step: str, again: bool) -> None:
        name = f"gw-{number % len(self.parts)}"
        if not again:
            self.steps[name] += 1
        before = self.parts[name]
        after = rollouts.told(before, step=step, n=self.steps[name], reason="", now=self.now)
        if before.part in (Part.WAITING, Part.WITHDRAWN, Part.SKIPPED):
            assert after == before
        assert rollouts.told(after, step=step, n=self.steps[name], reason="", now=self.now) == after
        self.parts[name] = after

    @rule(seconds=st.sampled_from([1.0, 10.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(verb=st.sampled_from(["pause", "resume", "stop", "roll_back"]))
    def somebody_acts(self, verb: str) -> None:
        parts = list(self.parts.values())
        try:
            if verb == "pause":
                self.rollout = rollouts.pause(self.rollout)
            elif verb == "resume":
                self.rollout = rollouts.resume(self.rollout, parts)
            elif verb == "stop":
                self._take(*rollouts.stop(self.rollout, parts, self.now))
            else:
                self._take(*rollouts.roll_back(self.rollout, parts, "by hand", self.now))
        except Conflict:
            allowed = {"pause": "running", "resume": "paused", "stop": "running"}
            assert self.rollout.state.value != allowed[verb]

    @precondition(lambda self: not self.rollout.state.final)
    @rule()
    def nobody_answers(self) -> None:
        """With time alone every rollout ends, whatever state it was in."""
        kept = (self.rollout, dict(self.parts), self.now, dict(self.serves))
        self.now += 501.0
        for _ in range(30):
            self.look()
            self.now += 51.0
        assert self.rollout.state.final, self.rollout
        assert not any(part.part.underway for part in self.parts.values())
        self.rollout, self.parts, self.now, self.serves = kept

    @invariant()
    def looking_twice_changes_nothing(self) -> None:
        if not hasattr(self, "parts"):
            return
        once, changed = rollouts.advance(self.rollout, list(self.parts.values()), self.now)
        parts = self.parts | {part.device: part for part in changed}
        if any(part.part is Part.CHOSEN for part in parts.values()):
            return  # the next look writes desired states first
        # An advance may begin a stage that is empty; after the last of them it rests.
        for _ in once.plan.stages:
            once, more = rollouts.advance(once, list(parts.values()), self.now)
            parts |= {part.device: part for part in more}
            if any(part.part is Part.CHOSEN for part in parts.values()):
                return
        assert rollouts.advance(once, list(parts.values()), self.now) == (once, [])

    @invariant()
    def stages_begin_in_order(self) -> None:
        if hasattr(self, "parts"):
            for part in self.parts.values():
                if part.part not in (Part.WAITING, Part.SKIPPED, Part.WITHDRAWN):
                    assert part.stage <= self.rollout.stage

    @invariant()
    def an_undone_rollout_leaves_nothing_behind(self) -> None:
        if hasattr(self, "parts") and self.rollout.state is RolloutState.ROLLED_BACK:
            assert set(self.serves.values()) == {"old"}

    @invariant()
    def an_end_is_an_end(self) -> None:
        if not hasattr(self, "parts"):
            return
        if self.was_final in ("rolled-back",):
            assert self.rollout.state.value == self.was_final
        if self.was_final in ("succeeded", "stopped"):
            assert self.rollout.state.value in (self.was_final, "rolling-back", "rolled-back")
        self.was_final = self.rollout.state.value if self.rollout.state.final else ""


RolloutMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestRolloutMachine = RolloutMachine.TestCase


def test_rolled_back_is_never_reported_again() -> None:
    part = DevicePart("gw", 0, Part.WITHDRAWN, n=3)
    assert rollouts.told(part, step="committed", n=4, reason="", now=1.0) == part
    late = replace(part, part=Part.OVERDUE)
    assert rollouts.told(late, step="committed", n=4, reason="", now=1.0).part is Part.COMMITTED
