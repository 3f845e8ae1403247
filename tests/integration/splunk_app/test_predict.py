"""keplerpredict against a service over real gRPC."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from integration.splunk_app.talk import (
    Double,
    cells,
    error_of,
    frame,
    getinfo,
    make_certificate,
    records,
    said,
    talk,
)
from kepler.v1 import models_pb2
from kepler_app.commands.predict import KeplerPredict
from kepler_app.commands.score import KeplerScore

PLAN = getinfo("app:m")


@pytest.fixture
def model(service: Double) -> Double:
    version = models_pb2.ModelVersion(
        name="app.search/m", version=1, target="y", required_fields=["a"], output_columns=["predicted(y)"]
    )
    service.versions["app.search/m"] = [version]
    return service


def test_rows_and_columns_come_back(model: Double) -> None:
    plan = getinfo("app:m", "probabilities=t", "threshold=0.1", "as", "risk")
    body = b'a,"_chunked_idx","__mv_a","__mv__chunked_idx"\n1,0,,\n2,1,"$2$;$3$",\n'
    code, answers = talk(KeplerPredict(), plan, body, body.split(b"\n")[0] + b"\n")
    assert code == 0
    assert answers[0][0] == {"type": "stateful"}
    assert cells(answers[1][1]) == [
        ["a", "_chunked_idx", "__mv_a", "__mv__chunked_idx", "risk", "probability(y=1)"],
        ["1", "0", "", "", "1!", "0.5"],
        ["2", "1", "$2$;$3$", "", "2!", "0.5"],
    ]
    assert len(cells(answers[2][1])) == 1
    assert [metadata["finished"] for metadata, _ in answers[1:]] == [False, True]
    assert said(answers) == [["WARN", "Field x is missing."]]
    options = model.seen[0].options
    assert (options.probabilities, options.on_missing, dict(options.overrides)) == (
        True,
        "warn",
        {"threshold": "0.1"},
    )
    assert len(model.seen) == 1


def test_many_slices_come_back_in_order(model: Double) -> None:
    rows = 100_000
    body = b"a,b\n" + b"".join(b'%d,"%s"\n' % (number, b"x" * 60) for number in range(rows))
    _, answers = talk(KeplerPredict(), PLAN, body)
    assert [row[2] for row in cells(answers[1][1])[1:]] == [f"{number}!" for number in range(rows)]


def test_chunks_without_header_or_rows(model: Double) -> None:
    code, answers = talk(KeplerPredict(), PLAN, b"", b"a\n", b"")
    assert code == 0
    assert [body for _, body in answers[1:]] == [b"", b'a,"predicted(y)"\n', b""]


def test_a_changed_header_opens_a_new_stream_of_the_same_version(model: Double) -> None:
    _, answers = talk(KeplerPredict(), PLAN, b"a,b\n1,2\n", b"b,a\n3,4\n")
    assert cells(answers[2][1]) == [["b", "a", "predicted(y)"], ["3", "4", "3!"]]
    assert [open_.model for open_ in model.seen] == ["app:m", "app.search/m@1"]


def test_an_earlier_prediction_is_replaced(model: Double) -> None:
    _, answers = talk(KeplerPredict(), PLAN, b'a,"predicted(y)"\n1,old\n')
    assert records(answers[1][1]) == [{"a": "1", "predicted(y)": "1!"}]


def test_the_signature_is_remembered_and_used(service: Double) -> None:
    service.signature, service.fields = "s1", ["a", "b"]
    talk(KeplerPredict(), PLAN, b"a,b,c\n1,2,3\n")
    assert service.seen[0].signature == ""
    _, answers = talk(KeplerPredict(), PLAN, b'a,b,"_chunked_idx"\n1,2,0\n')
    assert answers[0][0] == {"type": "stateful", "required_fields": ["a", "b"]}
    assert service.seen[1].signature == "s1"
    assert records(answers[1][1]) == [{"a": "1", "b": "2", "_chunked_idx": "0", "p": "1!"}]


def test_a_changed_model_fails_once_and_then_runs(service: Double) -> None:
    service.signature, service.fields = "s1", ["a"]
    talk(KeplerPredict(), PLAN, b"a\n1\n")
    service.signature, service.fields = "s2", ["a", "z"]
    sentence = error_of(KeplerPredict(), PLAN, b"a\n1\n")
    assert sentence.startswith("The model 'app:m' changed")
    assert "Run the search again." in sentence
    code, answers = talk(KeplerPredict(), PLAN, b"a,z\n1,2\n")
    assert code == 0
    assert answers[0][0]["required_fields"] == ["a", "z"]


def test_a_changed_model_runs_when_its_fields_are_there(service: Double) -> None:
    service.signature, service.fields = "s1", ["a", "b"]
    talk(KeplerPredict(), PLAN, b"a,b\n1,2\n")
    service.signature, service.fields = "s2", ["b"]
    code, answers = talk(KeplerPredict(), PLAN, b"a,b\n1,2\n")
    assert code == 0
    assert records(answers[1][1])[0]["p"] == "1!"


def test_full_transfer_asks_for_everything(service: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    service.signature, service.fields = "s1", ["a"]
    monkeypatch.setenv("KEPLER_TRANSFER", "full")
    for _ in range(2):
        _, answers = talk(KeplerPredict(), PLAN, b"a,b\n1,2\n")
        assert answers[0][0] == {"type": "stateful"}
    assert [open_.signature for open_ in service.seen] == ["", ""]


def test_values_with_line_breaks_meet_their_rows(service: Double) -> None:
    service.misbehave = "lines"
    _, answers = talk(KeplerPredict(), PLAN, b'a\n1\n"x\ny"\n')
    assert [row["p"] for row in records(answers[1][1])] == ["1\n!", "x\ny\n!"]


def test_a_wrong_number_of_rows_is_never_joined(service: Double) -> None:
    service.misbehave = "short"
    assert "read 1 rows where 2 were sent" in error_of(KeplerPredict(), PLAN, b"a\n1\n2\n")


def test_a_service_that_fails_in_mid_stream_is_said(service: Double) -> None:
    service.misbehave = "die"
    body = b"a,b\n" + b'1,"%s"\n' % (b"x" * 100) * 60_000
    assert error_of(KeplerPredict(), PLAN, body) == "It broke."


def test_a_service_killed_in_mid_search_is_said(service: Double) -> None:
    service.misbehave = "hang"
    threading.Timer(0.5, service.stop).start()
    sentence = error_of(KeplerPredict(), PLAN, b"a\n1\n")
    assert service.address in sentence
    assert "keplerhealth" in sentence


def test_missing_models_and_wrong_tokens(model: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "There is no model 'app:none'" in error_of(KeplerPredict(), getinfo("app:none"), b"a\n1\n")
    model.token = "right"
    assert error_of(KeplerPredict(), PLAN, b"a\n1\n") == "The token is not known. Set KEPLER_TOKEN."
    monkeypatch.setenv("KEPLER_TOKEN", "right")
    assert talk(KeplerPredict(), PLAN, b"a\n1\n")[0] == 0


def test_broken_rows_are_refused(model: Double) -> None:
    assert "not closed" in error_of(KeplerPredict(), PLAN, b'a\n1\n"x\n')


def test_a_service_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    with Double() as gone:
        address = gone.address
    monkeypatch.setenv("KEPLER_ADDRESS", address)
    sentence = error_of(KeplerPredict(), PLAN, b"a\n1\n")
    assert (
        sentence
        == f"Kepler service at {address} does not answer: the connection is refused. Check with '| keplerhealth'."
    )
    monkeypatch.setenv("KEPLER_ADDRESS", "no-such-host.invalid:1")
    assert "'no-such-host.invalid'" in error_of(KeplerPredict(), PLAN, b"a\n1\n")
    for name in ("a" * 64 + ".example.com", "a..example.com"):
        monkeypatch.setenv("KEPLER_ADDRESS", f"{name}:1")
        assert f"The name {name!r} of the Kepler service cannot be resolved" in error_of(
            KeplerPredict(), PLAN, b"a\n1\n"
        )
    monkeypatch.setenv("KEPLER_ADDRESS", "x y")
    assert "host:port" in error_of(KeplerPredict(), PLAN, b"a\n1\n")


def test_nothing_is_asked_for_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPLER_ADDRESS", "no-such-host.invalid:1")
    assert talk(KeplerPredict(), PLAN) == (0, [({"type": "stateful"}, b"")])


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the CA of the test lies."""
    monkeypatch.setenv("KEPLER_CA_FILE", str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


@pytest.mark.parametrize(
    ("server", "trusted", "words"),
    [
        ({"days": 30}, True, ()),
        ({"days": -1}, True, ("expired", "Renew")),
        ({"names": ("elsewhere",)}, True, ("not trusted", "the name that the certificate carries")),
        ({"days": 30}, False, ("not trusted", "Set the CA certificate")),
    ],
)
def test_certificates_are_always_verified(
    secure: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: dict[str, object],
    trusted: bool,
    words: tuple[str, ...],
) -> None:
    ca, _, issuer = make_certificate(names=("Test CA",))
    other, _, _ = make_certificate(names=("Other CA",))
    certificate, key, _ = make_certificate(issuer=issuer, **server)  # type: ignore[arg-type]
    secure.write_bytes(ca if trusted else other)
    service = Double()
    monkeypatch.setenv("KEPLER_ADDRESS", service.secure(certificate, key))
    service.signature, service.fields = "s", ["a"]
    with service:
        if not words:
            assert talk(KeplerPredict(), PLAN, b"a\n1\n")[0] == 0
        else:
            sentence = error_of(KeplerPredict(), PLAN, b"a\n1\n")
            assert all(word in sentence for word in words), sentence


def test_tls_to_a_plain_port_and_plain_to_a_tls_port(secure: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca, _, issuer = make_certificate(names=("Test CA",))
    certificate, key, _ = make_certificate(issuer=issuer)
    secure.write_bytes(ca)
    service = Double()
    address = service.secure(certificate, key)
    with service:
        monkeypatch.setenv("KEPLER_ADDRESS", service.address)
        assert "TLS" in error_of(KeplerPredict(), PLAN, b"a\n1\n")
        monkeypatch.setenv("KEPLER_ADDRESS", address)
        monkeypatch.delenv("KEPLER_CA_FILE")
        assert "keplerhealth" in error_of(KeplerPredict(), PLAN, b"a\n1\n")
    secure.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    monkeypatch.setenv("KEPLER_CA_FILE", str(secure))
    assert "not valid PEM" in error_of(KeplerPredict(), PLAN, b"a\n1\n")


def test_score_gives_a_table(service: Double) -> None:
    plan = getinfo("accuracy_score,f1_score", "y", "against", '"predicted(y)"')
    code, answers = talk(KeplerScore(), plan, b'"predicted(y)",y\n1,1\n', b'y,"predicted(y)"\n1,2\n')
    assert code == 0
    assert answers[0][0] == {"type": "reporting", "required_fields": ["y", "predicted(y)"]}
    assert answers[1][1] == b""
    assert records(answers[2][1]) == [
        {"method": "accuracy_score", "score": "0.5"},
        {"method": "f1_score", "score": "0.5"},
    ]


def test_score_refusals(service: Double) -> None:
    assert "No rows" in error_of(KeplerScore(), getinfo("r2_score", "y"), b"")
    assert "required_fields" not in talk(KeplerScore(), getinfo("r2_score", "y*"))[1][0][0]
    assert talk(KeplerScore(), getinfo("r2_score", "y", preview=True), b"y\n1\n")[1][1][1] == b""


def test_the_log_tells_what_was_done(model: Double, bare_environment: Path) -> None:
    talk(KeplerPredict(), PLAN, b"a\n1\n")
    error_of(KeplerPredict(), getinfo("app:none"), b"a\n1\n")
    done, failed, *_ = (bare_environment / "var/log/splunk/kepler.log").read_text().splitlines()
    for pair in ("event=command.done", "sid=1.7", 'model="app.search/m@1"', "rows=1", "score_s="):
        assert pair in done
    assert "event=command.failed" in failed
    assert "code=NotFound" in failed


def test_frames_are_json() -> None:
    assert json.loads(frame(PLAN).split(b"\n", 1)[1]) == PLAN
