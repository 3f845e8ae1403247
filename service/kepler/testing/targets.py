"""`check_target`: what every deploy target must do, for ours and for plugin authors'.

It needs no test framework: call it in a test, and an `AssertionError` says what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from kepler.core.errors import InvalidInput, NotFound
from kepler.ports.deploy import Change, DeployRequest, DeployState, DeployStatus, DeployTarget

MAX_WAITS = 1000


class Killed(BaseException):
    """The service dies here. Not an `Exception`: a target must not be able to catch its own end."""


@dataclass
class RecordingWork:
    """A `kepler.ports.jobs.WorkRun` that remembers its steps, as a durable job does.

    Parameters
    ----------
    tick
        Called whenever the target waits; moves clocks and lets devices or clouds do their part.
    kill_in
        Name of a step: the service dies once it had its effect and before that is recorded.
    """

    job_id: str
    tick: Callable[[], None]
    steps: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    kill_in: str = ""
    waits: int = 0
    phases: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])

    def step(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name not in self.steps:
            found = json.loads(json.dumps(work()))
            if name == self.kill_in:
                raise Killed
            self.steps[name] = found
        return self.steps[name]

    def progress(self, fraction: float, phase: str) -> None:
        self.phases.append((fraction, phase))

    def wait(self, seconds: float) -> None:
        self.waits += 1
        if self.waits > MAX_WAITS:
            raise AssertionError("the deployment waits for ever")
        self.tick()


@dataclass
class TargetBench:
    """A target with its stand-in. ``seen`` gives everything the stand-in holds, to compare before and after."""

    target: DeployTarget
    request: DeployRequest
    tick: Callable[[], None]
    seen: Callable[[], object]


def check_target(make: Callable[[], TargetBench]) -> None:
    """Raise `AssertionError` where a target breaks the contract of `kepler.ports.deploy.DeployTarget`.

    ``make`` gives a fresh stand-in and a request that can be served each time.
    """
    _check_questions_change_nothing(make())
    steps = _check_a_deployment(make())
    for name in steps:
        _check_killed_in(make(), name)


def _check_questions_change_nothing(bench: TargetBench) -> None:
    target, request, before = bench.target, bench.request, bench.seen()
    plan = target.plan(request)
    assert plan.steps, "a plan names its steps"
    assert plan.changes, "a plan names what would change"
    assert target.plan(request) == plan, "the same plan twice"
    assert target.cost(request).text, "a cost says something"
    wrong = replace(request, options={**request.options, "no-such-option": "1"})
    for asked in (target.plan, lambda item: target.deploy(item, RecordingWork(item.id, bench.tick))):
        try:
            asked(wrong)
        except InvalidInput:
            continue
        raise AssertionError("an unknown option is InvalidInput, for plan and deploy alike")
    try:
        target.status(replace(request, id="never-begun"))
    except NotFound:
        pass
    else:
        raise AssertionError("the status of what was never begun is NotFound")
    assert bench.seen() == before, "questions and refusals change nothing"


def _check_a_deployment(bench: TargetBench) -> tuple[str, ...]:
    target, request = bench.target, bench.request
    run = RecordingWork(request.id, bench.tick)
    _check_served(target.deploy(request, run))
    planned = [step.name for step in target.plan(request).steps]
    # What waits needs no record of its own, so a plan may name more than was recorded.
    assert set(run.steps) <= set(planned), f"steps {sorted(run.steps)} are not those of the plan, {planned}"
    after = bench.seen()
    _check_served(target.deploy(request, RecordingWork(request.id, bench.tick, dict(run.steps))))
    assert bench.seen() == after, "a deployment that ran changes nothing when it runs again"
    _check_served(target.status(request))
    assert all(line.text for line in target.logs(request)), "a line of the log says something"
    assert len(target.logs(request, limit=1)) <= 1, "logs keep to their limit"

    told = target.rollback(request, dry_run=True)
    assert bench.seen() == after, "a dry run of rollback changes nothing"
    assert told, "a dry run says what it would change"
    assert _names(target.rollback(request)) == _names(told), "a rollback does what its dry run said"
    bench.tick()
    assert target.rollback(request) == (), "a second rollback changes nothing"
    assert target.status(request).state is not DeployState.SUCCEEDED, "what was rolled back does not serve"

    rolled = bench.seen()
    target.delete(request, dry_run=True)
    assert bench.seen() == rolled, "a dry run of delete changes nothing"
    target.delete(request)
    assert target.delete(request) == (), "a second delete changes nothing"
    return tuple(run.steps)


def _check_killed_in(bench: TargetBench, name: str) -> None:
    """The service dies after the effect of a step and before its record; the job begins again."""
    run = RecordingWork(bench.request.id, bench.tick, kill_in=name)
    try:
        bench.target.deploy(bench.request, run)
    except Killed:
        pass
    else:
        raise AssertionError(f"the step {name} was not run")
    resumed = RecordingWork(bench.request.id, bench.tick, dict(run.steps))
    _check_served(bench.target.deploy(bench.request, resumed))
    _check_served(bench.target.status(bench.request))


def _check_served(status: DeployStatus) -> None:
    assert status.state is DeployState.SUCCEEDED, f"it is {status.state}: {status.reason}"
    assert status.places or status.url, "what serves has a place or an address"


def _names(changes: tuple[Change, ...]) -> list[str]:
    return sorted(change.what for change in changes)
