"""Second opinions: when the service is asked, what becomes of its answer, and that nothing waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kepler_edge.ask import REST_S, WAITING, Asker, Rule
from kepler_edge.errors import InvalidInput, KeplerError, Unavailable
from kepler_edge.model import LoadedModel
from kepler_edge.outputs import Value
from kepler_edge.settings import make

UNSURE: dict[str, Value] = {
    "predicted(y)": "good", "probability(y=good)": 0.55, "probability(y=bad)": 0.45,
}  # fmt: skip


class Service:
    def __init__(self, *errors: KeplerError) -> None:
        self.errors = list(errors)
        self.asked: list[tuple[str, dict[str, object], bool]] = []

    def ask(
        self, model: str, fields: Mapping[str, object], *, probabilities: bool, timeout_s: float
    ) -> tuple[str, dict[str, str]]:
        self.asked.append((model, dict(fields), probabilities))
        if self.errors:
            raise self.errors.pop(0)
        return "app.search/large@4", {
            "predicted(y)": "bad", "probability(y=good)": "0.1", "probability(y=bad)": "0.9",
        }  # fmt: skip


def model(threshold: float = 0.8) -> LoadedModel:
    """Only what is asked of it: whether outputs are an alert."""
    return cast(
        "LoadedModel",
        SimpleNamespace(alerts=lambda out: cast("float", out["probability(y=bad)"]) >= threshold),
    )


def record(**more: object) -> dict[str, object]:
    return {"kind": "prediction", "out": dict(UNSURE), "alert": False, **more}


class Desk:
    """An asker whose clock stands still and whose thread runs when told."""

    def __init__(self, service: Service, rule: Rule | None = None) -> None:
        self.put: list[tuple[int, dict[str, object]]] = []
        self.at = 100.0
        self.asker = Asker(
            lambda priority, found: self.put.append((priority, found)), service, "app:large@prod",
            rule or Rule(confidence=0.7), 1.0, lambda: self.at,
        )  # fmt: skip

    def work(self, n: int) -> None:
        stop = threading.Event()
        thread = threading.Thread(target=self.asker.run, args=(stop,), daemon=True)
        thread.start()
        end = time.monotonic() + 10
        while len(self.put) < n and time.monotonic() < end:
            time.sleep(0.005)
        stop.set()
        thread.join(5)
        assert not thread.is_alive()
        self.asker._closed = False  # more comes in this test


@pytest.mark.parametrize(
    ("rule", "out", "unsure"),
    [
        (Rule(confidence=0.7), UNSURE, True),
        (Rule(confidence=0.5), UNSURE, False),
        (Rule(), UNSURE, False),
        (Rule(low=0.4, high=0.6), {"isOutlier": -1, "anomaly_score": 0.5}, True),
        (Rule(low=0.4, high=0.6), {"isOutlier": 1, "anomaly_score": 0.61}, False),
        (Rule(low=10.0, high=20.0), {"predicted(y)": 15.0}, True),
        (Rule(low=10.0, high=20.0), {"predicted(y)": "15"}, False),
        (Rule(confidence=0.7), {"predicted(y)": None}, False),
    ],
)
def test_the_rule(rule: Rule, out: dict[str, Value], unsure: bool) -> None:
    assert rule.unsure(out) is unsure


def test_the_services_answer_counts_and_the_devices_own_is_kept() -> None:
    service = Service()
    desk = Desk(service)
    asked = record()
    assert desk.asker.take(model(), {"a": 1.0}, asked)
    desk.work(1)
    [(priority, found)] = desk.put
    assert service.asked == [("app:large@prod", {"a": 1.0}, True)]
    assert found["out"] == {
        "predicted(y)": "bad", "probability(y=good)": 0.1, "probability(y=bad)": 0.9,
        "answered_by": "app.search/large@4", "device.predicted(y)": "good", "device.probability(y=good)": 0.55,
        "device.probability(y=bad)": 0.45,
    }  # fmt: skip
    assert (priority, found["alert"]) == (0, True)


def test_a_sure_answer_goes_its_own_way() -> None:
    desk = Desk(Service(), Rule(confidence=0.5))
    assert not desk.asker.take(model(), {}, record())


def test_while_the_service_is_away_records_go_at_once_with_the_devices_answer() -> None:
    service = Service(Unavailable("away"))
    desk = Desk(service)
    first, second = record(n=1), record(n=2)
    assert desk.asker.take(model(), {}, first)
    assert desk.asker.take(model(), {}, second)
    desk.work(2)
    assert [(priority, found["out"]) for priority, found in desk.put] == [(1, UNSURE), (1, UNSURE)]
    assert len(service.asked) == 1  # the second did not even try
    assert not desk.asker.take(model(), {}, record())
    desk.at += REST_S
    assert desk.asker.take(model(), {}, record())
    assert desk.asker.counts["offline"] == 3


def test_a_refusal_and_a_wait_that_is_over_leave_the_devices_answer() -> None:
    service = Service(KeplerError("no such model"))
    desk = Desk(service)
    desk.asker.take(model(), {}, record())
    desk.work(1)
    desk.asker.take(model(), {}, record())
    desk.at += 1.5
    desk.work(2)
    assert [found["out"] for _, found in desk.put] == [UNSURE, UNSURE]
    assert (desk.asker.counts["failed"], desk.asker.counts["late"], len(service.asked)) == (1, 1, 1)


def test_a_full_queue_never_holds_a_record_and_stopping_lets_all_go() -> None:
    desk = Desk(Service())
    taken = [desk.asker.take(model(), {}, record()) for _ in range(WAITING + 3)]
    assert taken.count(False) == 3
    stop = threading.Event()
    stop.set()
    desk.asker.run(stop)
    assert len(desk.put) == WAITING
    assert not desk.asker.take(model(), {}, record())  # nobody would let it go any more


def test_settings_need_a_model_and_a_rule() -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {}, {"ask_model": "m"}, {"ask_confidence": 0.7}, {"ask_model": "m", "ask_low": 2.0, "ask_high": 1.0},
    )  # fmt: skip
    for more in wrong:
        with pytest.raises(InvalidInput, match="needs ask_model and a rule"):
            make({"ask_address": "service:8790", **more})
    assert make({"ask_address": "service:8790", "ask_model": "m", "ask_confidence": 0.7}).ask_timeout_s == 1.0
