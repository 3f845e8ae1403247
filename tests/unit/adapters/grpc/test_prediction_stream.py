"""Slices of one stream are scored side by side and answered in order, bounded, and cleaned up after."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from kepler.adapters.grpc import calls
from kepler.adapters.grpc.prediction import PredictionServicer
from kepler.core.errors import InvalidInput, Overloaded
from kepler.core.jobs import Notice
from kepler.core.records import NumberColumn, RecordBatch
from kepler.ports.serving import NumberOutput, PredictOptions, Scoring
from kepler.usecases.predict import Prediction
from kepler.v1 import prediction_pb2 as pb


class Model:
    """Answers with twice the field; even slices are slow, so that order would show."""

    full_name, signature, size_bytes = "app.search/m@1", "s", 1
    required_fields, number_fields = ("x",), frozenset({"x"})

    def __init__(self) -> None:
        self.running = self.most = 0
        self.lock = threading.Lock()
        self.meeting: threading.Barrier | None = None  # two slices must be in work at once to pass it

    def check_options(self, options: PredictOptions) -> None:
        return None

    def output_columns(self, options: PredictOptions) -> tuple[str, ...]:
        return ("predicted(x)",)

    def predict(self, batch: RecordBatch, options: PredictOptions) -> Scoring:
        column = batch["x"]
        assert isinstance(column, NumberColumn)
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        if self.meeting is not None:
            self.meeting.wait(8)
        time.sleep(0.02 if column.values[0] % 2 == 0 else 0.0)
        with self.lock:
            self.running -= 1
        if np.isnan(column.values).any():
            raise InvalidInput("A value is missing")
        return Scoring((NumberOutput("predicted(x)", column.values * 2),), (Notice("warn", "said once"),))


class Open:
    """Stands for the use case: every model is ``Model``."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.warm = True

    def open(self, caller: Any, model: str, columns: tuple[str, ...], options: PredictOptions, signature: str = "") -> Prediction:  # fmt: skip
        return Prediction(self.model, options, columns, signature_changed=signature == "stale")

    def recall(self, *args: Any) -> Prediction | None:
        return self.open(*args) if self.warm else None


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def servicer(model: Model) -> Iterator[PredictionServicer]:
    with ThreadPoolExecutor(4) as pool:
        yield PredictionServicer(Open(model), None, pool, max_streams=1)  # type: ignore[arg-type]


def rows(number: int, count: int = 40_000) -> pb.PredictRequest:
    return pb.PredictRequest(rows=f"{number}\n".encode() * count)


OPENING = pb.PredictRequest(open=pb.PredictOpen(model="m", columns=["x"]))


async def stream(*requests: pb.PredictRequest) -> AsyncIterator[pb.PredictRequest]:
    for request in requests:
        yield request


async def answers(servicer: PredictionServicer, *requests: pb.PredictRequest) -> list[pb.PredictResponse]:
    calls._principal.set(calls.OPEN)
    return [response async for response in servicer.Predict(stream(*requests))]


@pytest.mark.parametrize("count", [3, 90_000], ids=["small", "large"])
async def test_answers_come_in_order_and_notices_once(servicer, model, count):
    if count > 3:
        model.meeting = threading.Barrier(2)
    found = await answers(servicer, OPENING, *(rows(number, count) for number in range(10, 16)))
    scored = [response.scored for response in found[1:]]
    assert [one.values.split(b"\n", 1)[0] for one in scored] == [f"{2 * n}.0".encode() for n in range(10, 16)]
    assert [one.rows for one in scored] == [count] * 6
    assert sum(len(one.notices) for one in scored) == 1
    assert model.most == (2 if count > 3 else 1)


async def test_an_error_comes_after_the_slices_before_it(servicer):
    got = []
    calls._principal.set(calls.OPEN)
    bad = pb.PredictRequest(rows=b"\n" * 200_000 + b'""\n')
    responses = servicer.Predict(stream(OPENING, rows(10, 90_000), rows(11, 90_000), bad, rows(13)))

    async def collect() -> None:
        async for response in responses:
            got.append(response)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(InvalidInput, match="missing"):
        await collect()
    assert len(got) == 3
    assert len(await answers(servicer, OPENING, rows(1))) == 2, "the stream's place is free again"


async def test_a_caller_that_goes_away_leaves_nothing_running(servicer, model):
    calls._principal.set(calls.OPEN)
    responses = servicer.Predict(stream(OPENING, *(rows(number, 90_000) for number in range(10, 20))))
    await anext(responses)
    await anext(responses)
    await responses.aclose()
    assert model.running == 0
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


@pytest.mark.parametrize("first", [(), (rows(1),)], ids=["nothing", "rows"])
async def test_a_stream_must_begin_with_open(servicer, first):
    with pytest.raises(InvalidInput, match="which model"):
        await answers(servicer, *first)


@pytest.mark.parametrize("before", [(), (rows(10, 90_000),)], ids=["small", "large"])
async def test_a_second_open_is_refused(servicer, before):
    with pytest.raises(InvalidInput, match="one `open`"):
        await answers(servicer, OPENING, *before, OPENING)


async def test_a_stale_signature_ends_the_stream(servicer):
    stale = pb.PredictRequest(open=pb.PredictOpen(model="m", columns=["x"], signature="stale"))
    (only,) = await answers(servicer, stale, rows(1))
    assert only.opened.signature_changed


async def test_too_many_streams_are_refused_with_a_hint(servicer):
    calls._principal.set(calls.OPEN)
    held = servicer.Predict(stream(OPENING, rows(1)))
    await anext(held)
    with pytest.raises(Overloaded, match="1 prediction streams already"):
        await answers(servicer, OPENING)
    await held.aclose()


async def test_a_handful_of_rows_in_one_call(servicer):
    calls._principal.set(calls.OPEN)
    answer = await servicer.PredictRows(pb.PredictRowsRequest(model="m", columns=["x"], rows=b"3\n5\n"))
    assert answer.scored.values == b"6.0\n10.0\n"
    assert answer.opened.output_columns == ["predicted(x)"]


class CountingPool(ThreadPoolExecutor):
    """Counts what is handed to its threads."""

    def __init__(self) -> None:
        super().__init__(1)
        self.handed = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.handed += 1
        return super().submit(*args, **kwargs)


@pytest.fixture
def pools() -> Iterator[tuple[CountingPool, CountingPool]]:
    with CountingPool() as scoring, CountingPool() as loading:
        yield scoring, loading


async def test_small_slices_of_a_quick_model_change_no_thread(model, pools):
    opener, (scoring, loading) = Open(model), pools
    servicer = PredictionServicer(opener, None, scoring, loading=loading, max_streams=1)
    opener.warm = False
    await answers(servicer, OPENING, rows(11, 3), rows(13, 3))
    assert (scoring.handed, loading.handed) == (1, 1), "the first slice shows that the model is quick"
    opener.warm = True
    found = await answers(servicer, OPENING, rows(11, 3), rows(13, 3))
    assert [response.scored.values for response in found[1:]] == [b"22.0\n" * 3, b"26.0\n" * 3]
    for _ in range(2):
        answer = await servicer.PredictRows(pb.PredictRowsRequest(model="m", columns=["x"], rows=b"3\n"))
        assert answer.scored.values == b"6.0\n"
    assert (scoring.handed, loading.handed) == (1, 1)
    await answers(servicer, OPENING, rows(11, 3_000))
    assert scoring.handed == 2, "a slice of more than 4 kB is never scored in the event loop"


async def test_a_model_that_held_up_the_others_goes_back_to_the_threads(model, pools):
    scoring, loading = pools
    servicer = PredictionServicer(Open(model), None, scoring, loading=loading, max_streams=1)
    await answers(servicer, OPENING, rows(11, 3), rows(10, 3))  # an even slice takes 20 ms, here in the loop
    assert scoring.handed == 1
    await answers(servicer, OPENING, rows(11, 3))
    assert scoring.handed == 2


async def test_an_open_with_many_columns_is_handled_in_a_thread(model, pools):
    scoring, loading = pools
    servicer = PredictionServicer(Open(model), None, scoring, loading=loading, max_streams=1)
    wide = pb.PredictRequest(open=pb.PredictOpen(model="m", columns=[f"column_{n}" for n in range(1_000)]))
    await answers(servicer, wide)
    assert loading.handed == 1
    await answers(servicer, OPENING)
    assert loading.handed == 1
