"""The client against a service that speaks the protocol over real gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.service_double import ServiceDouble
from kepler.client import Access, KeplerClient
from kepler.client.records import PredictChoice, ScoreOrder, TrainOrder, TrainTicket
from kepler.core.errors import (
    Cancelled,
    Denied,
    InternalError,
    InvalidInput,
    NotFound,
    Overloaded,
    Unauthenticated,
    Unavailable,
)
from kepler.core.jobs import JobState

COLUMNS = ("a", "y")
ROWS = [b"1,0\n2,1\n", b"3,0\n"]


@pytest.fixture
def service() -> Iterator[ServiceDouble]:
    with ServiceDouble() as double:
        yield double


@pytest.fixture
def client(service: ServiceDouble) -> Iterator[KeplerClient]:
    with KeplerClient(Access.resolve(address=service.address), user="ana") as client:
        yield client


def order(**changes: object) -> TrainOrder:
    return TrainOrder(**{"algorithm": "KMeans", "columns": COLUMNS, "into": "app:m", **changes})  # type: ignore[arg-type]


def test_training_sends_every_row_and_gives_a_job(client: KeplerClient, service: ServiceDouble) -> None:
    told: list[TrainTicket] = []
    ticket = client.train(
        order(target="y", seed=0, test_size=0.25, as_name="p", tags=("t",), params={"k": "3"}),
        ROWS,
        on_accepted=told.append,
    )
    assert ticket.rows == 3
    assert service.rows == [["1", "0"], ["2", "1"], ["3", "0"]]
    assert told[0].model == "app.search/m"
    assert ticket.notices[0].text == "The seed is 42."
    sent = service.seen[0]
    assert (sent.caller.user, sent.caller.app, len(sent.caller.trace_id)) == ("ana", "search", 32)
    assert (sent.options.has_seed, sent.options.seed, sent.options.test_size) == (True, 0, 0.25)
    assert (getattr(sent, "as"), dict(sent.params), list(sent.options.tags)) == ("p", {"k": "3"}, ["t"])


def test_a_dry_run_sends_no_row(client: KeplerClient, service: ServiceDouble) -> None:
    def never() -> Iterator[bytes]:
        raise AssertionError("a row was asked for")
        yield b""

    assert client.train(order(dry_run=True), never()).job_id == ""
    assert service.jobs == {}


def test_an_unknown_algorithm_is_refused_before_a_row_is_read(client: KeplerClient) -> None:
    touched: list[int] = []

    def rows() -> Iterator[bytes]:
        touched.append(1)
        yield b"1,0\n"

    with pytest.raises(InvalidInput, match="nearest are LogisticRegression"):
        client.train(order(algorithm="LogisticRegresion"), rows())
    assert not touched


def test_a_source_that_fails_never_becomes_a_model(client: KeplerClient, service: ServiceDouble) -> None:
    def rows() -> Iterator[bytes]:
        yield b"1,0\n"
        raise InvalidInput("The file ends inside a quoted value")

    for call in (
        lambda: client.train(order(), rows()),
        lambda: client.score(ScoreOrder(COLUMNS, ("accuracy_score",), ("a",), ("y",)), rows()),
    ):
        with pytest.raises(InvalidInput, match="ends inside"):
            call()
    assert service.jobs == {}


def test_predicting_answers_each_slice_in_order(client: KeplerClient) -> None:
    client.train(order(target="y"), ROWS)
    slices = [b"%d,0\n" % n for n in range(50)]
    with client.predict("app:m", COLUMNS, slices, PredictChoice(probabilities=True)) as stream:
        assert stream.opened.model == "app.search/m@1"
        assert stream.opened.output_columns == ("predicted(y)", "probability(y=1)")
        assert stream.opened.notices[0].level == "warn"
        pairs = list(stream)
    assert [slice_ for slice_, _ in pairs] == slices
    assert [scored.values for _, scored in pairs] == [b"%d!,0.5\n" % n for n in range(50)]


def test_a_missing_model_is_one_sentence(client: KeplerClient) -> None:
    with pytest.raises(NotFound, match="There is no model 'nope'"):
        client.predict("nope", COLUMNS, ROWS)


def test_a_source_that_fails_in_a_prediction_raises_its_own_error(client: KeplerClient) -> None:
    client.train(order(target="y"), ROWS)

    def rows() -> Iterator[bytes]:
        yield b"1,0\n"
        raise InvalidInput("broken")

    with pytest.raises(InvalidInput, match="broken"), client.predict("m", COLUMNS, rows()) as stream:
        list(stream)


def test_a_prediction_left_early_ends_quietly(client: KeplerClient) -> None:
    client.train(order(target="y"), ROWS)
    with client.predict("m", COLUMNS, [b"1,0\n"] * 100) as stream:
        next(iter(stream))
    assert client.models()


def test_slices_without_an_answer_are_noticed(client: KeplerClient, service: ServiceDouble) -> None:
    client.train(order(target="y"), ROWS)
    service.swallow_slices = True
    with pytest.raises(InternalError, match="before it had answered"):
        list(client.predict("m", COLUMNS, ROWS))


def test_scoring(client: KeplerClient) -> None:
    table, notices = client.score(ScoreOrder(COLUMNS, ("accuracy_score",), ("a",), ("y",)), [b"1,1\n2,3\n"])
    assert table.to_dicts() == [{"method": "accuracy_score", "score": "0.5"}]
    assert notices == ()


def test_scoring_passes_the_services_error_on(client: KeplerClient, service: ServiceDouble) -> None:
    service.fail["Score"] = Overloaded("The queue is full", retry_after_s=3)
    with pytest.raises(Overloaded) as caught:
        client.score(ScoreOrder(COLUMNS, ("x",), ("a",), ("y",)), ROWS)
    assert caught.value.retry_after_s == 3


def test_predictions_of_a_job(client: KeplerClient) -> None:
    ticket = client.train(order(output="predictions"), ROWS)
    with client.read_predictions(ticket.job_id) as stream:
        assert [scored.values for _, scored in stream] == [b"1!\n2!\n3!\n"]


def test_jobs_are_listed_watched_and_cancelled(client: KeplerClient) -> None:
    for _ in range(3):
        ticket = client.train(order(), ROWS)
    assert [job.id for job in client.jobs()] == ["job-3", "job-2", "job-1"]
    assert [job.id for job in client.jobs(limit=2)] == ["job-3", "job-2"]
    assert client.jobs("failed") == []
    states = list(client.watch_job(ticket.job_id))
    assert [job.phase for job in states[:2]] == ["loading", "fitting"]
    assert states[-1].state is JobState.SUCCEEDED
    assert client.job("job-1").metrics == (("accuracy", 0.97),)
    assert client.cancel_job("job-1").state is JobState.SUCCEEDED


def test_a_failed_job_carries_its_error(client: KeplerClient, service: ServiceDouble) -> None:
    service.job_error = InvalidInput("No row is left", cause="All hold nulls", fix="Use nulls=impute")
    ticket = client.train(order(), ROWS)
    failure = list(client.watch_job(ticket.job_id))[-1].failure
    assert failure
    assert (failure.code, failure.message, failure.fix) == (
        "InvalidInput",
        "No row is left",
        "Use nulls=impute",
    )


def test_watching_goes_on_when_the_service_comes_back(client: KeplerClient, service: ServiceDouble) -> None:
    ticket = client.train(order(), ROWS)
    watch = client.watch_job(ticket.job_id)
    next(watch)
    port = int(service.address.rpartition(":")[2])
    service.stop()
    with ServiceDouble(port=port) as again:
        again.jobs = service.jobs
        assert list(watch)[-1].state is JobState.SUCCEEDED


def test_watching_gives_up_in_the_end(client: KeplerClient, service: ServiceDouble) -> None:
    service.fail["WatchJob"] = Unavailable("down")
    with pytest.raises(Unavailable, match="down"):
        list(client.watch_job("job-1", reconnect_for_s=0.3))
    service.fail["WatchJob"] = Denied("no")
    with pytest.raises(Denied):
        list(client.watch_job("job-1"))


def test_models_versions_and_aliases(client: KeplerClient) -> None:
    for name in ("app:m", "app:m", "app:n"):
        client.train(order(into=name, target="y"), ROWS)
    assert [model.full_name for model in client.models()] == ["app.search/m@2", "app.search/n@1"]
    assert [item.version for item in client.versions("m")] == [2, 1]
    assert client.model("m@1").metrics == {"accuracy": 0.97}
    client.set_alias("m@1", "prod")
    assert client.set_alias("m@2", "prod").aliases == ("prod",)
    assert client.rollback("m", "prod").version == 1
    assert client.delete_alias("m", "prod").aliases == ()
    version, table = client.summarize("m", view="params", limit=3)
    assert (version.version, table.columns) == (2, ("feature", "coefficient"))
    assert client.delete_model("m@2") == ("app.search/m", (2,))
    assert client.delete_model("m") == ("app.search/m", (1,))


def test_algorithms_and_identity(client: KeplerClient) -> None:
    assert {item.name for item in client.algorithms()} > {"KMeans"}
    found = client.algorithms("KMeans")[0]
    assert (found.tasks, found.params[0].high, found.available) == (("clustering",), "10000", True)
    assert client.who_am_i().capabilities == ("predict", "train")


def test_the_token_travels_and_its_lack_is_said(service: ServiceDouble) -> None:
    service.token = "s3cret"
    with KeplerClient(Access.resolve(address=service.address, token="s3cret")) as client:
        assert client.who_am_i().user == "ana"
    with KeplerClient(Access.resolve(address=service.address)) as client, pytest.raises(Unauthenticated):
        client.who_am_i()


def test_nobody_there_is_said_with_the_address(service: ServiceDouble) -> None:
    service.stop()
    with KeplerClient(Access.resolve(address=service.address)) as client:
        with pytest.raises(Unavailable, match=service.address):
            client.models()
        with pytest.raises(Unavailable, match=service.address):
            client.train(order(), ROWS)
        with pytest.raises(Unavailable, match=service.address):
            client.predict("m", COLUMNS, ROWS)


def test_a_cancelled_call_is_said(client: KeplerClient, service: ServiceDouble) -> None:
    service.fail["Train"] = Cancelled("The job was cancelled by ana")
    with pytest.raises(Cancelled, match="by ana"):
        client.train(order(), ROWS)


def test_tls_with_an_unreadable_ca_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="KEPLER_CA_FILE"):
        KeplerClient(Access.resolve(address="127.0.0.1:1", ca_file=str(tmp_path / "none.pem")))
