"""What the stand-in cannot show: growing headers, failing jobs, truncated events, odd settings."""

from __future__ import annotations

import csv
import http.client
import io
import json
import ssl
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kepler.adapters.splunk import connection
from kepler.adapters.splunk.connection import SplunkAccess, connect
from kepler.adapters.splunk.extract import extract, metrics_search, spl
from kepler.adapters.splunk.paged_csv import PagedCsv
from kepler.core.errors import (
    Denied,
    InternalError,
    InvalidInput,
    KeplerError,
    MissingExtra,
    NotFound,
    TimedOut,
    Unauthenticated,
    Unavailable,
)


def read(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def test_a_field_of_a_later_page_is_a_further_column(tmp_path: Path) -> None:
    with PagedCsv(tmp_path / "o.csv") as out:
        out.add(["_time", "_cd", "a"], [["t1", "internal", "1"], ["t2", "x", None]])
        out.add(["b", "_time"], [[["m", "v"], "t3"], ["short"]])
    assert read(tmp_path / "o.csv") == [
        ["_time", "a", "b"],
        ["t1", "1", ""],
        ["t2", "", ""],
        ["t3", "", "m\nv"],
        ["", "", "short"],
    ]


def test_an_error_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("old")

    def fail() -> None:
        with PagedCsv(tmp_path / "o.csv") as out:
            out.add(["a"], [[1]])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "o.csv").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


class Stream(io.BytesIO):
    """A body as splunk-sdk gives it."""


class Job:
    """A search job with prepared answers."""

    def __init__(self, pages: list[dict[str, Any]], polls: int = 0, **content: Any) -> None:
        self.pages, self.polls = pages, polls
        self.content = {"isFailed": "0", "resultCount": "0", **content}
        self.cancelled = False

    def __getitem__(self, name: str) -> Any:
        return self.content[name]

    def is_done(self) -> bool:
        self.polls -= 1
        return self.polls < 0

    def is_ready(self) -> bool:
        return self.polls % 2 == 0

    def results(self, **_: Any) -> Stream:
        return Stream(json.dumps(self.pages.pop(0)).encode())

    def cancel(self) -> None:
        self.cancelled = True
        raise OSError("gone already")


def service_of(job: Job | None = None, lines: bytes = b"") -> Any:
    jobs = SimpleNamespace(create=lambda query, **_: job, export=lambda query, **_: Stream(lines))
    return SimpleNamespace(jobs=jobs, authority="https://splunk:8089")


def test_waiting_tells_how_far_the_search_is(tmp_path: Path) -> None:
    told: list[float] = []
    page = {"fields": [{"name": "a"}], "rows": [["1"]]}
    job = Job([page], polls=4, resultCount="1", doneProgress="0.5", messages={"warn": ["Slow disk"]})
    done = extract(
        service_of(job),
        "x",
        tmp_path / "o.csv",
        on_progress=lambda s, _: told.append(s),
        sleep=lambda _: None,
    )
    assert told == [0.5, 0.5, 1.0]
    assert job.cancelled
    assert [notice.text for notice in done.notices] == ["Slow disk"]


def test_events_that_the_job_did_not_keep_are_said(tmp_path: Path) -> None:
    page = {"fields": ["a"], "rows": [["1"]]}
    done = extract(service_of(Job([page], resultCount="1", eventCount="9")), "x", tmp_path / "o.csv")
    assert "kept 1 of 9 events" in done.notices[0].text
    job = Job([page], resultCount="1", eventCount="9", reportSearch="stats count")
    assert extract(service_of(job), "x", tmp_path / "o.csv").notices == ()


@pytest.mark.parametrize(
    ("job", "kind", "said"),
    [
        (Job([], isFailed="1", messages={"fatal": ["Unknown command"]}), InvalidInput, "Unknown command"),
        (Job([], isFailed="1"), InvalidInput, "The search failed"),
        (Job([{"fields": [], "rows": []}], resultCount="5"), InternalError, "0 of 5 results"),
        (Job([], polls=10**9), TimedOut, "longer than 0 s"),
    ],
)
def test_jobs_that_go_wrong(tmp_path: Path, job: Job, kind: type[KeplerError], said: str) -> None:
    with pytest.raises(kind, match=said):
        extract(service_of(job), "x", tmp_path / "o.csv", timeout_s=0.0, sleep=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_page_has_rows(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="at least one row"):
        extract(service_of(), "x", tmp_path / "o.csv", page_rows=0)


def test_the_export_stream_drops_previews_and_tells_warnings(tmp_path: Path) -> None:
    lines = [
        {"messages": [{"type": "WARN", "text": "One indexer is down"}, {"type": "INFO", "text": "fine"}]},
        {"preview": True, "result": {"a": "0"}},
        {"preview": False, "result": {"a": "1"}},
        {"preview": False, "results": [{"a": "2", "b": ["x", "y"]}]},
    ]
    body = b"\n\n".join(json.dumps(line).encode() for line in lines)
    done = extract(service_of(lines=body), "x", tmp_path / "o.csv", export=True, page_rows=1)
    assert read(tmp_path / "o.csv") == [["a", "b"], ["1", ""], ["2", "x\ny"]]
    assert [notice.text for notice in done.notices] == ["One indexer is down"]


def test_an_error_in_the_export_stream(tmp_path: Path) -> None:
    body = json.dumps({"messages": [{"type": "FATAL", "text": "Bad search"}]}).encode()
    with pytest.raises(InvalidInput, match="Bad search"):
        extract(service_of(lines=body), "x", tmp_path / "o.csv", export=True)


@pytest.mark.parametrize(
    ("text", "query"),
    [(" a ", "search a"), ("search a", "search a"), ("|x", "|x"), ("searches", "search searches")],
)
def test_searches_get_their_leading_command(text: str, query: str) -> None:
    assert spl(text) == query


def test_metrics() -> None:
    assert metrics_search("| mstats max(x)") == "| mstats max(x)"
    assert metrics_search("mem", function="p95") == '| mstats p95("mem") WHERE index="*" span=1m'


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        ('x") | delete', {}),
        ("x", {"index": 'a" | delete'}),
        ("x", {"by": ("a b",)}),
        ("x", {"span": "soon"}),
        ("x", {"function": "avg(x)|"}),
    ],
)
def test_metrics_take_no_spl_through_their_parts(metric: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        metrics_search(metric, **options)


FULL = {f"KEPLER_SPLUNK_{name}": value for name, value in {
    "HOST": "sh", "PORT": "9089", "SCHEME": "http", "USERNAME": "ana", "PASSWORD": "p4ss", "TOKEN": "t0ken",
    "APP": "ops", "CA_FILE": "/ca.pem", "VERIFY": "false",
}.items()}  # fmt: skip


def test_access_comes_from_variables_and_hides_credentials() -> None:
    found = SplunkAccess.resolve(environment=FULL)
    assert found == SplunkAccess("sh", 9089, "http", "ana", "p4ss", "t0ken", "ops", "/ca.pem", False)
    assert found.url == "http://sh:9089"
    assert "p4ss" not in repr(found)
    assert "t0ken" not in repr(found)
    assert SplunkAccess.resolve(host="other", port=1, environment=FULL).url == "http://other:1"


@pytest.mark.parametrize(
    "changes",
    [
        {"KEPLER_SPLUNK_HOST": ""},
        {"KEPLER_SPLUNK_PORT": "x"},
        {"KEPLER_SPLUNK_PORT": "70000"},
        {"KEPLER_SPLUNK_SCHEME": "ftp"},
        {"KEPLER_SPLUNK_VERIFY": "perhaps"},
        {"KEPLER_SPLUNK_TOKEN": "", "KEPLER_SPLUNK_PASSWORD": ""},
    ],
)
def test_access_that_is_not_whole(changes: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        SplunkAccess.resolve(environment=FULL | changes)


def test_without_splunk_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "splunklib", None)
    with pytest.raises(MissingExtra, match=r"kepler-for-splunk\[splunk\]"):
        connect(SplunkAccess.resolve(environment=FULL))


def http_error(status: int, body: bytes = b"") -> Exception:
    from splunklib import binding

    response = SimpleNamespace(
        status=status, reason="why", headers=[], body=SimpleNamespace(read=lambda: body)
    )
    return binding.HTTPError(response)


@pytest.fixture
def statuses() -> None:
    pytest.importorskip("splunklib")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidInput),
        (401, Unauthenticated),
        (403, Denied),
        (404, NotFound),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_statuses_of_splunk(statuses: None, status: int, kind: type[KeplerError]) -> None:
    body = b"<response><messages><msg type='ERROR'>Because of this</msg></messages></response>"
    with pytest.raises(kind) as caught, connection.explained("https://sh:8089"):
        raise http_error(status, body)
    assert type(caught.value) is kind
    assert "Because of this" in caught.value.cause


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError("refused"), "does not answer"),
        (http.client.RemoteDisconnected("closed"), "does not answer"),
        (ssl.SSLError("handshake"), "does not answer"),
    ],
)
def test_the_network(statuses: None, error: Exception, said: str) -> None:
    with pytest.raises(Unavailable, match=said), connection.explained("https://sh:8089"):
        raise error
