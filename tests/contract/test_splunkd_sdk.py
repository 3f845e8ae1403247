"""The real splunk-sdk drives the stand-in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import splunklib.client as client
import splunklib.results as results
from splunklib.binding import AuthenticationError, HTTPError

from fakes.splunkd import Splunkd

APP = Path(__file__).parents[1] / "data" / "standin_app"


@pytest.fixture(scope="module", params=[False, True], ids=["http", "https"])
def splunkd(request: pytest.FixtureRequest) -> Iterator[Splunkd]:
    with Splunkd(
        [APP], {"abc.csv": "a,b\n" + "".join(f"{i},x {i}\n" for i in range(250))}, tls=request.param
    ) as made:
        made.add_user("ann", "ann-pw", roles=["user"])
        made.add_user("bob", "bob-pw", roles=["standin_trusted"])
        yield made


@pytest.fixture
def service(splunkd: Splunkd) -> client.Service:
    return client.connect(**splunkd.sdk_kwargs())


def read(stream: Any) -> tuple[list[dict[str, Any]], list[str]]:
    rows: list[dict[str, Any]] = []
    told: list[str] = []
    for item in results.JSONResultsReader(stream):
        if isinstance(item, dict):
            rows.append(item)
        else:
            told.append(str(item))
    return rows, told


def finished(job: client.Job) -> client.Job:
    for _ in range(600):
        if job.is_done():
            return job
        time.sleep(0.05)
    raise AssertionError("the job did not end")


def test_a_job_is_created_watched_and_paged(service: client.Service) -> None:
    job = finished(service.jobs.create("| inputlookup abc.csv | standintyped add=n fields=a"))
    assert (job["isDone"], job["isFailed"], job["dispatchState"]) == ("1", "0", "DONE")
    assert job["resultCount"] == "250"
    rows, _ = read(job.results(output_mode="json"))
    assert len(rows) == 100
    rows, _ = read(job.results(output_mode="json", count=0))
    assert len(rows) == 250
    rows, _ = read(job.results(output_mode="json", count=3, offset=248))
    assert rows == [{"a": "248", "b": "x 248", "n": "248"}, {"a": "249", "b": "x 249", "n": "249"}]
    rows, _ = read(job.preview(output_mode="json", count=1))
    assert len(rows) == 1
    rows, _ = read(job.results(output_mode="json", count=1, f="b"))
    assert rows == [{"b": "x 0"}]
    assert job.results(output_mode="csv", count=2).read() == b'a,b,n\n0,"x 0",0\n1,"x 1",1\n'
    job.cancel()
    with pytest.raises(KeyError):
        service.jobs[job.sid]


@pytest.mark.parametrize("mode", ["json_rows", "json_cols"])
def test_rows_and_columns_as_arrays(service: client.Service, mode: str) -> None:
    import json

    body = json.loads(
        service.jobs.oneshot("| makeresults count=2 | eval a=1 | table a b", output_mode=mode).read()
    )
    assert body["fields"] == ["a", "b"]
    assert body.get("rows", body.get("columns")) == (
        [["1", None]] * 2 if mode == "json_rows" else [["1"] * 2, [None] * 2]
    )


def test_xml_results_read_as_by_the_older_reader(service: client.Service) -> None:
    stream = service.jobs.oneshot(
        '| makeresults | eval a="<&>" | stats values(a) as a count | append [| makeresults | table z]'
    )
    with pytest.warns(DeprecationWarning, match="JSONResultsReader"):
        reader = results.ResultsReader(stream)
    assert list(reader) == [{"a": "<&>", "count": "1"}, {}]


def test_blocking_oneshot_and_export(service: client.Service) -> None:
    job = service.jobs.create("| inputlookup abc.csv | stats count", exec_mode="blocking")
    assert job.is_done()
    assert read(job.results(output_mode="json"))[0] == [{"count": "250"}]
    assert len(read(service.jobs.oneshot("| inputlookup abc.csv", output_mode="json", count=0))[0]) == 250
    assert len(read(service.jobs.export("| inputlookup abc.csv", output_mode="json"))[0]) == 250
    exported = service.jobs.export("| inputlookup abc.csv | head 2", output_mode="csv").read()
    assert exported == b'a,b\n0,"x 0"\n1,"x 1"\n'
    assert b"<text>249</text>" in service.jobs.export("| inputlookup abc.csv").read()


def test_a_failing_command_shows_in_state_and_messages(service: client.Service) -> None:
    search = "| makeresults | standinmisbehave error_execute"
    job = finished(service.jobs.create(search))
    assert (job["isFailed"], job["dispatchState"]) == ("1", "FAILED")
    assert job["messages"] == {
        "warn": ["careful"],
        "error": ["Error in 'standinmisbehave' command: it broke"],
    }
    rows, told = read(service.jobs.oneshot(search, output_mode="json"))
    assert rows == []
    assert told == ["ERROR: Error in 'standinmisbehave' command: it broke"]
    _, told = read(service.jobs.export(search, output_mode="json"))
    assert told == ["ERROR: Error in 'standinmisbehave' command: it broke"]
    assert b"it broke" in service.jobs.export(search).read()


@pytest.mark.parametrize(
    ("search", "text"),
    [
        ("| nonsense", "Unknown search command 'nonsense'"),
        ('| makeresults | eval a="x', "Mismatched quotes"),
        ("index=main", "Unknown search command 'index=main'"),
        ("| makeresults | transpose", "Unknown search command 'transpose'"),
        ("| makeresults | eval a=spath(b)", "does not have the function spath"),
        (" ", "Empty search"),
    ],
)
def test_what_cannot_be_parsed_makes_no_job(service: client.Service, search: str, text: str) -> None:
    with pytest.raises(HTTPError, match=text) as caught:
        service.jobs.create(search)
    assert caught.value.status == 400


def test_a_running_job_is_finalized_or_cancelled(service: client.Service) -> None:
    job = service.jobs.create("| makeresults | standinmisbehave slow")
    for _ in range(100):
        if job.is_ready():
            break
        time.sleep(0.02)
    assert not job.is_done()
    assert service.get(f"search/jobs/{job.sid}/results").status == 204
    job.pause().unpause()
    job.touch().set_ttl(60)
    job.cancel()
    job = service.jobs.create("| makeresults count=10 | standintyped")
    job.finalize()
    assert finished(job)["isFinalized"] == "1"


def test_jobs_belong_to_their_owner(splunkd: Splunkd, service: client.Service) -> None:
    job = service.jobs.create("| makeresults", exec_mode="blocking")
    ann = client.connect(**splunkd.sdk_kwargs("ann"))
    with pytest.raises(HTTPError) as caught:
        ann.jobs[job.sid].refresh()
    assert caught.value.status == 403
    hers = ann.jobs.create("| makeresults", exec_mode="blocking")
    assert [j.sid for j in ann.jobs.list()] == [hers.sid]
    assert {j.sid for j in service.jobs.list()} >= {job.sid, hers.sid}


def test_events_are_searched_by_index_time_and_field(splunkd: Splunkd, service: client.Service) -> None:
    splunkd.events.create("plant")
    for i in range(5):
        splunkd.events.add(
            {"machine": f"m{i % 2}", "temp": 20.5 + i}, index="plant", time_s=1_700_000_000 + i
        )
    job = service.jobs.create("search index=plant machine=m0 temp>21", exec_mode="blocking")
    rows, _ = read(job.results(output_mode="json"))
    assert [(r["temp"], r["_time"]) for r in rows] == [("24.5", "1700000004.000"), ("22.5", "1700000002.000")]
    assert len(read(job.events(output_mode="json"))[0]) == 2
    assert job["eventCount"] == "2"
    job = service.jobs.create(
        "search index=plant", earliest_time=1_700_000_001, latest_time=1_700_000_003, exec_mode="blocking"
    )
    assert job["resultCount"] == "2"
    counted = service.jobs.oneshot(
        "search index=plant | stats count avg(temp) as t by machine", output_mode="json"
    )
    assert read(counted)[0] == [
        {"machine": "m0", "count": "3", "t": "22.5"},
        {"machine": "m1", "count": "2", "t": "22.5"},
    ]


def test_a_search_of_an_index_ends_with_a_header_only_chunk(splunkd: Splunkd) -> None:
    splunkd.events.add({"v": 1}, index="single", time_s=1.0)
    seen: list[bytes] = []
    splunkd.on_message = lambda _, way, m: seen.append(m) if way == "in" else None
    splunkd.search("search index=single | standintyped fields=v")
    splunkd.on_message = None
    bodies = [m.partition(b"}")[2] for m in seen if b'"execute"' in m]
    header = b'v,"_chunked_idx","__mv_v","__mv__chunked_idx"\n'
    assert bodies == [header + b"1,0,,\n", header]


def test_metrics_are_aggregated(splunkd: Splunkd, service: client.Service) -> None:
    for i in range(4):
        splunkd.events.add_metric("cpu.load", i, index="m", time_s=60.0 * i + 1, dims={"host": f"h{i % 2}"})
    rows, _ = read(
        service.jobs.oneshot("| mstats avg(cpu.load) as load where index=m by host", output_mode="json")
    )
    assert rows == [{"host": "h0", "load": "1"}, {"host": "h1", "load": "2"}]
    rows, _ = read(service.jobs.oneshot("| mstats max(cpu.load) where index=m span=2m", output_mode="json"))
    assert [r["_time"] for r in rows] == ["0.000", "120.000"]
    splunkd.events.add_metric("cpu.idle", 7, index="m", time_s=1.0, dims={"host": "h0"})
    starred = '| mstats avg("cpu.*") WHERE index="m" span=1h BY "host"'
    rows, _ = read(service.jobs.oneshot(starred, output_mode="json"))
    assert rows[0] == {"_time": "0.000", "host": "h0", "avg(cpu.idle)": "7", "avg(cpu.load)": "1"}
    listed = '| mcatalog values(metric_name) AS metric_name WHERE index="m" | mvexpand metric_name'
    rows, _ = read(service.jobs.oneshot(listed, output_mode="json"))
    assert rows == [{"metric_name": "cpu.idle"}, {"metric_name": "cpu.load"}]
    assert read(service.jobs.oneshot('| mstats avg("x") WHERE index="m"', output_mode="json"))[0] == []
    assert read(service.jobs.oneshot('| mcatalog values(x) WHERE index="none"', output_mode="json"))[0] == []


def test_login_sessions_and_context(splunkd: Splunkd) -> None:
    with pytest.raises(AuthenticationError):
        client.connect(**{**splunkd.sdk_kwargs(), "password": "wrong"})
    ann = client.connect(**splunkd.sdk_kwargs("ann"))
    told = ann.get("authentication/current-context", output_mode="json").body.read()
    assert b'"username": "ann"' in told
    assert b'"search"' in told
    base = {k: v for k, v in splunkd.sdk_kwargs().items() if k in ("scheme", "host", "port")}
    token = splunkd.add_token("bob")
    assert client.Service(**base, splunkToken=token).get("server/info").status == 200
    assert client.Service(**base, token=f"Splunk {token}").get("server/info").status == 200
    assert client.Service(**splunkd.sdk_kwargs("ann"), basic=True).get("server/info").status == 200
    with pytest.raises(HTTPError) as caught:
        client.Service(**base, token="Splunk nonsense").get("apps/local")
    assert caught.value.status == 401


def test_users_roles_capabilities_apps_and_indexes(service: client.Service) -> None:
    assert {u.name for u in service.users} >= {"admin", "ann", "bob"}
    assert "standin_use" in service.users["bob"]["capabilities"]
    assert service.roles["standin_trusted"]["imported_roles"] == ["user"]
    assert "standin_use" in service.capabilities
    assert service.apps["standin_app"]["version"] == "1.0.0"
    service.indexes.create("fresh")
    service.indexes["fresh"].refresh()
    service.indexes["main"].submit("a=1 b=two", sourcetype="t")
    rows, _ = read(service.jobs.oneshot("search a=1", output_mode="json"))
    assert rows[0]["b"] == "two"
    for path in (
        "authentication/users/nobodyhere",
        "authorization/roles/x",
        "data/indexes/x",
        "apps/local/x",
        "no/such",
    ):
        with pytest.raises(HTTPError) as caught:
            service.get(path)
        assert caught.value.status == 404


def test_confs_are_layered_read_and_written(splunkd: Splunkd, service: client.Service) -> None:
    service.namespace["app"], service.namespace["owner"] = "standin_app", "nobody"
    stanza = service.confs["standin_app_settings"]["service"]
    assert stanza["address"] == "here:1"
    stanza.update(address="there:2")
    assert service.confs["standin_app_settings"]["service"]["address"] == "there:2"
    service.confs["standin_app_settings"].create("more", x="1")
    assert {s.name for s in service.confs["standin_app_settings"]} == {"service", "more"}
    service.confs["standin_app_settings"].delete("more")
    splunkd.set_app_conf("standin_app", "standin_app_settings", "service", {"address": "here:1"})
    ann = client.connect(**splunkd.sdk_kwargs("ann"), app="standin_app", owner="nobody")
    with pytest.raises(HTTPError) as caught:
        ann.confs["standin_app_settings"]["service"].update(address="x")
    assert caught.value.status == 403
    with pytest.raises(HTTPError):
        service.get("configs/conf-nothing_here")
    with pytest.raises(HTTPError):
        service.get("configs/conf-commands", app="no_app", owner="nobody")
    with pytest.raises(LookupError):
        splunkd.set_app_conf("no_app", "x", "y", {})


def test_passwords_are_for_administrators(splunkd: Splunkd, service: client.Service) -> None:
    made = service.storage_passwords.create("s3cret", "me", "realm")
    assert (made.clear_password, made.username, made.realm, made.name) == (
        "s3cret",
        "me",
        "realm",
        "realm:me:",
    )
    with pytest.raises(HTTPError) as caught:
        service.storage_passwords.create("again", "me", "realm")
    assert caught.value.status == 409
    made.update(password="other")
    assert service.storage_passwords["realm:me:"].clear_password == "other"
    ann = client.connect(**splunkd.sdk_kwargs("ann"))
    for attempt in (lambda: list(ann.storage_passwords), lambda: ann.storage_passwords.create("x", "y")):
        with pytest.raises(HTTPError) as caught:
            attempt()
        assert caught.value.status == 403
    service.storage_passwords.delete("me", "realm")
    assert [p.name for p in service.storage_passwords] == []
    splunkd.set_password("search", "", "bare", "x")
    assert service.storage_passwords["bare"].clear_password == "x"
    service.storage_passwords.delete("bare")


def test_encrypted_settings_live_in_passwords(splunkd: Splunkd, service: client.Service) -> None:
    """As UCC and solnlib keep them: masked in the conf, in pieces of 255 in storage/passwords."""
    where = {"app": "standin_app", "owner": "nobody"}
    long = "t" * 300
    service.post("standin_app_settings/service", address="a:1", token=long, **where)
    page = service.get("standin_app_settings", output_mode="json", **where).body.read()
    assert b'"token": "******"' in page
    assert long.encode() not in page
    clear = service.get(
        "standin_app_settings/service", output_mode="json", **{"--cred--": "1"}, **where
    ).body.read()
    assert long.encode() in clear
    kept = service.get("storage/passwords", output_mode="json", count=0, **where).body.read()
    assert b"__REST_CREDENTIAL__#standin_app#configs/conf-standin_app_settings" in kept
    assert b"service``splunk_cred_sep``3" in kept
    ann = client.connect(**splunkd.sdk_kwargs("ann"))
    for more in ({}, {"--cred--": "1"}):
        attempt = ann.get if more else ann.post
        with pytest.raises(HTTPError) as caught:
            attempt("standin_app_settings/service", **more, **where)
        assert caught.value.status == 403
    splunkd.set_app_secret("standin_app", "standin_app_settings", "service", {"token": "short"})
    assert splunkd.secrets.get_ucc("standin_app", "standin_app_settings", "service") == {"token": "short"}
    with pytest.raises(HTTPError):
        service.get("standin_app_settings/none", **where)


def test_the_certificate_is_verifiable(splunkd: Splunkd) -> None:
    import ssl
    import urllib.request

    if splunkd.ca_file is None:
        assert splunkd.uri.startswith("http://")
        return
    context = ssl.create_default_context(cafile=str(splunkd.ca_file))
    request = urllib.request.Request(
        splunkd.uri + "/services/server/info?output_mode=json",
        headers={"Authorization": "Splunk " + splunkd.add_token("admin")},
    )
    with urllib.request.urlopen(request, context=context) as answer:
        assert answer.status == 200


def test_a_client_that_hangs_up_cancels_its_export(splunkd: Splunkd, service: client.Service) -> None:
    splunkd.config.chunk_rows = 1000
    stream = service.jobs.export("| makeresults count=2000000 | eval a=1", output_mode="json")
    assert stream.read(100)
    stream.close()
    for _ in range(200):
        if not splunkd.jobs.all() or all(j.is_done for j in splunkd.jobs.all()):
            break
        time.sleep(0.05)
    splunkd.config.chunk_rows = 50_000
    assert all(j.is_done for j in splunkd.jobs.all())
