"""How a rollout goes on, stops and is put back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kepler.core.errors import Conflict, InvalidInput
from kepler.fleet import rollouts
from kepler.fleet.rollouts import Counts, DevicePart, OnError, Part, Rollout, RolloutPlan, RolloutState

NAMES = [f"gw-{number:02}" for number in range(10)]


class Driven:
    """A rollout with a driver that writes desired states at once."""

    def __init__(self, plan: RolloutPlan, names: list[str] = NAMES) -> None:
        self.rollout = Rollout("r", "r-v2", "app.search/m", 2, "*", plan, "ana", created_at=0.0)
        self.parts = {part.device: part for part in rollouts.assign(names, plan, "r")}
        self.now = 0.0
        self.look()

    def look(self, seconds: float = 0.0) -> RolloutState:
        self.now += seconds
        for _ in range(3):
            self.rollout, changed = rollouts.advance(self.rollout, list(self.parts.values()), self.now)
            self.parts |= {part.device: part for part in changed}
            self.parts = {name: rollouts.offered(part, self.now) for name, part in self.parts.items()}
        return self.rollout.state

    def tell(self, step: str, *names: str) -> RolloutState:
        for name in names:
            part = self.parts[name]
            self.parts[name] = rollouts.told(
                part, step=step, n=part.n + 1, reason="bad golden row", now=self.now
            )
        return self.look()

    def underway(self) -> list[str]:
        return sorted(name for name, part in self.parts.items() if part.part.underway)


def test_stages_follow_each_other_and_the_whole_succeeds() -> None:
    driven = Driven(RolloutPlan(stages=(0.1, 0.5, 1.0)))
    assert len(driven.underway()) == 1
    driven.tell("committed", *driven.underway())
    assert len(driven.underway()) == 4
    driven.tell("committed", *driven.underway())
    assert driven.tell("committed", *driven.underway()) is RolloutState.SUCCEEDED
    assert driven.rollout.reason == "10 of 10 devices have it"


def test_a_stage_rests_before_the_next() -> None:
    driven = Driven(RolloutPlan(stages=(0.1, 1.0), soak_s=60))
    driven.tell("committed", *driven.underway())
    assert driven.underway() == []
    driven.look(61)
    assert len(driven.underway()) == 9


@pytest.mark.parametrize(
    ("on_error", "state"),
    [
        (OnError.PAUSE, RolloutState.PAUSED),
        (OnError.STOP, RolloutState.STOPPED),
        (OnError.ROLLBACK, RolloutState.ROLLING_BACK),
    ],
)
def test_too_many_failures(on_error: OnError, state: RolloutState) -> None:
    driven = Driven(RolloutPlan(stages=(0.1, 1.0), on_error=on_error))
    assert driven.tell("refused", *driven.underway()) is state
    assert "1 device failed, more than may: bad golden row" in driven.rollout.reason
    assert driven.underway() == []


def test_a_tenth_may_fail_where_a_tenth_is_allowed() -> None:
    driven = Driven(RolloutPlan(stages=(1.0,), success_share=0.9, error_share=0.1))
    driven.tell("rolled-back", "gw-03")
    assert driven.tell("committed", *driven.underway()) is RolloutState.SUCCEEDED


def test_resuming_accepts_the_failures_so_far() -> None:
    driven = Driven(RolloutPlan(stages=(0.1, 1.0), on_error=OnError.PAUSE))
    driven.tell("refused", *driven.underway())
    driven.rollout = rollouts.resume(driven.rollout, list(driven.parts.values()))
    assert driven.look() is RolloutState.RUNNING
    assert len(driven.underway()) == 9
    assert driven.tell("refused", *driven.underway()[:2]) is RolloutState.PAUSED


def test_too_few_commits_pause_although_failures_are_allowed() -> None:
    driven = Driven(RolloutPlan(stages=(0.5, 1.0), success_share=1.0, error_share=0.5, on_error=OnError.STOP))
    first, *others = driven.underway()
    driven.tell("refused", first)
    assert driven.tell("committed", *others) is RolloutState.PAUSED
    assert driven.rollout.reason == "Only 4 of 5 devices have it, fewer than asked for"


def test_a_silent_device_is_overdue_and_may_still_commit_late() -> None:
    plan = RolloutPlan(stages=(1.0,), success_share=0.5, error_share=0.5, device_s=100)
    driven = Driven(plan, ["a", "b"])
    driven.tell("downloading", "a")
    driven.tell("committed", "b")
    assert driven.look(101) is RolloutState.SUCCEEDED
    assert driven.parts["a"].part is Part.OVERDUE
    assert driven.parts["a"].reason == "Not done within 100 s; last step downloading"
    driven.tell("committed", "a")
    assert Counts.of(list(driven.parts.values())).committed == 2


def test_a_paused_rollout_ends_with_its_time() -> None:
    driven = Driven(RolloutPlan(stages=(0.1, 1.0), soak_s=5, device_s=10, total_s=20))
    driven.tell("committed", *driven.underway())
    driven.rollout = rollouts.pause(driven.rollout)
    assert driven.look(19) is RolloutState.PAUSED
    assert driven.look(1) is RolloutState.STOPPED
    assert driven.rollout.reason == "Its time was over"
    assert Counts.of(list(driven.parts.values())) == Counts(total=10, committed=1, skipped=9)


def test_what_was_offered_before_a_stop_still_ends() -> None:
    driven = Driven(RolloutPlan(stages=(0.5, 1.0), device_s=10))
    driven.rollout, changed = rollouts.stop(driven.rollout, list(driven.parts.values()), 0.0)
    driven.parts |= {part.device: part for part in changed}
    assert len(driven.underway()) == 5
    assert driven.look(11) is RolloutState.STOPPED
    assert driven.underway() == []
    with pytest.raises(Conflict, match="cannot be paused: it is stopped"):
        rollouts.pause(driven.rollout)


def test_rolling_back_withdraws_everybody_who_began() -> None:
    driven = Driven(RolloutPlan(stages=(0.5, 1.0)))
    driven.tell("committed", *driven.underway()[:2])
    rollout, changed = rollouts.roll_back(driven.rollout, list(driven.parts.values()), "by hand", 5.0)
    parts = driven.parts | {part.device: part for part in changed}
    begun = rollouts.to_withdraw(rollout, list(parts.values()))
    assert len(begun) == 5
    assert rollouts.advance(rollout, list(parts.values()), 5.0) == (rollout, [])
    parts |= {part.device: rollouts.withdrawn(part, 6.0) for part in begun}
    assert rollouts.advance(rollout, list(parts.values()), 6.0)[0].state is RolloutState.ROLLED_BACK


def test_what_comes_twice_or_late_changes_nothing() -> None:
    part = DevicePart("gw", 0, Part.OFFERED)
    part = rollouts.told(part, step="downloading", n=4, reason="", now=1.0)
    assert (part.part, part.step) == (Part.INSTALLING, "downloading")
    assert rollouts.told(part, step="preflight", n=3, reason="", now=1.0) == part
    failed = rollouts.told(part, step="refused", n=5, reason="no", now=2.0)
    assert rollouts.told(failed, step="committed", n=6, reason="", now=3.0) == failed


@pytest.mark.parametrize(
    "plan",
    [
        RolloutPlan(stages=()),
        RolloutPlan(stages=(0.5,)),
        RolloutPlan(stages=(0.5, 0.5, 1.0)),
        RolloutPlan(stages=(float("nan"), 1.0)),
        RolloutPlan(success_share=0.0),
        RolloutPlan(error_share=1.0),
        RolloutPlan(device_s=0.0),
        RolloutPlan(device_s=float("inf")),
        RolloutPlan(total_s=10.0),
    ],
)
def test_plans_that_cannot_be_followed(plan: RolloutPlan) -> None:
    with pytest.raises(InvalidInput):
        plan.check()


def test_assignment_is_the_same_for_the_same_devices() -> None:
    plan = RolloutPlan(stages=(0.1, 0.5, 1.0))
    assert rollouts.assign(NAMES, plan, "x") == rollouts.assign(NAMES[::-1] + NAMES[:2], plan, "x")
    assert [part.stage for part in rollouts.assign(NAMES, plan, "x")] == [0] + [1] * 4 + [2] * 5
    assert [part.stage for part in rollouts.assign(["a"], plan, "x")] == [0]
    assert replace(plan, stages=(1.0,)).stages == (1.0,)


def test_an_older_report_leads_nobody_back() -> None:
    part = rollouts.told(DevicePart("gw", 0, Part.OFFERED), step="selftest", n=4, reason="", now=1.0)
    assert rollouts.observed(part, step="downloading", reason="", now=2.0) == part
    assert rollouts.observed(part, step="selftest", reason="", now=2.0) == part
    ahead = rollouts.observed(part, step="probation", reason="", now=2.0)
    assert (ahead.step, ahead.part, ahead.n) == ("probation", Part.INSTALLING, 4)
    done = rollouts.observed(ahead, step="committed", reason="", now=3.0)
    assert (done.part, done.ended_at, done.n) == (Part.COMMITTED, 3.0, 4)
    assert rollouts.observed(done, step="committed", reason="", now=9.0).ended_at == 3.0
