"""The stand-in starts commands and speaks with them as splunkd does."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from fakes.splunkd import Splunkd, has_python

MakeSplunkd = Callable[..., Splunkd]


@pytest.mark.splunk_python
@pytest.mark.parametrize("python", ["3.9", "3.13"])
def test_a_command_starts_as_under_splunkd(make_splunkd: MakeSplunkd, python: str) -> None:
    if not has_python(python):
        pytest.skip(f"CPython {python} is not installed")
    splunkd = make_splunkd(python=python, env={"KEPLER_X": "1"})
    result = splunkd.search('| makeresults | standintyped type=events show=info x = "a b" "c"="d"')
    assert result.state == "DONE", result.messages
    facts = json.loads(result.rows[0]["facts"])
    assert facts["version"] == python
    assert facts["argv"] == []
    assert "PYTHONPATH" not in facts["env"]
    assert {"SPLUNK_HOME", "KEPLER_X"} <= set(facts["env"])
    info = facts["getinfo"]["searchinfo"]
    # facts/splunk_app.md 1.3: quotes go, spaces around = split.
    assert info["args"] == ["type=events", "show=info", "x", "=", "a b", "c=d"]
    assert info["raw_args"][-2:] == ['"a b"', '"c"="d"']
    assert info["search"].startswith("%7C%20makeresults")
    assert result.stderr == ""


def test_selected_fields_are_sent_with_their_index_and_merged_back(splunkd: Splunkd) -> None:
    result = splunkd.search("| inputlookup abc.csv | standintyped fields=c,absent add=new drop=odd")
    assert result.fields == ["a", "b", "c", "absent", "new"]
    assert [(r["a"], r["b"], r["c"], r["new"]) for r in result.rows] == [
        ("0", "x y", "0.5", "0"),
        ("2", "x y", "2.5", "2"),
        ("4", "x y", "4.5", "4"),
    ]


def test_a_required_field_that_is_not_echoed_is_gone(splunkd: Splunkd) -> None:
    result = splunkd.search("| inputlookup abc.csv | standintyped fields=c keep=_chunked_idx")
    assert result.fields == ["a", "b"]


def test_without_an_index_nothing_can_be_merged(splunkd: Splunkd) -> None:
    result = splunkd.search("| inputlookup abc.csv | standintyped fields=c keep=c")
    assert result.fields == ["c"]


@pytest.mark.parametrize(("kind", "header"), [("events", ["a", "b", "c"]), ("reporting", ["c"])])
def test_whole_set_commands_get_their_fields_in_chunks(
    make_splunkd: MakeSplunkd, kind: str, header: list[str]
) -> None:
    seen: list[tuple[str, str, bytes]] = []
    splunkd = make_splunkd(
        lookups={"abc.csv": "a,b,c\n" + "1,2,3\n" * 7}, chunk_rows=3, on_message=lambda *m: seen.append(m)
    )
    result = splunkd.search(f"| inputlookup abc.csv | standintyped type={kind} fields=c")
    assert result.state == "DONE"
    assert result.fields == header
    assert len(result.rows) == 7
    sent = [m for _, way, m in seen if way == "in" and b'"execute"' in m]
    assert [b'"finished":true' in m for m in sent] == [False, False, True]
    assert b"_chunked_idx" not in sent[0]


@pytest.mark.parametrize(
    ("last_chunk", "ends"),
    [("data", [False, True]), ("empty", [False, False, True]), ("auto", [False, True])],
)
def test_the_end_of_a_stream_comes_with_rows_or_alone(
    make_splunkd: MakeSplunkd, last_chunk: str, ends: list[bool]
) -> None:
    seen: list[bytes] = []
    splunkd = make_splunkd(
        lookups={"a.csv": "a\n1\n2\n"},
        chunk_rows=1,
        last_chunk=last_chunk,
        on_message=lambda _, w, m: seen.append(m),
    )
    assert len(splunkd.search("| inputlookup a.csv | standintyped fields=a").rows) == 2
    sent = [m for m in seen if b'"execute"' in m]
    assert [b'"finished":true' in m for m in sent] == ends
    if last_chunk == "empty":
        assert sent[-1].endswith(b'}a,"_chunked_idx","__mv_a","__mv__chunked_idx"\n')


def test_no_rows_at_all_still_reach_the_command(splunkd: Splunkd) -> None:
    result = splunkd.search("| inputlookup abc.csv | search a=99 | standintyped show=info type=events")
    facts = json.loads(result.rows[0]["facts"])
    assert facts["header"][:3] == ["a", "b", "c"]
    assert facts["n_rows"] == 0


@pytest.mark.parametrize("probes", [0, 1, 3])
def test_a_search_starts_each_command_to_plan_and_once_to_run(make_splunkd: MakeSplunkd, probes: int) -> None:
    seen: list[bytes] = []
    splunkd = make_splunkd(probes=probes, on_message=lambda _, way, m: seen.append(m))
    splunkd.search("| makeresults | standintyped")
    assert sum(b'"getinfo"' in m for m in seen) == probes + 1


def test_a_generating_command_is_asked_until_it_is_done(splunkd: Splunkd) -> None:
    result = splunkd.search("| standingenerate count=2 parts=3 fields=n,part | head 5")
    assert [(r["n"], r["part"]) for r in result.rows] == [
        ("0", "0"),
        ("1", "0"),
        ("0", "1"),
        ("1", "1"),
        ("0", "2"),
    ]
    # The header of the empty body, as recorded for generateevents (8.2.1).
    assert result.rows[0]["asked"] == 'n,part,"_chunked_idx","__mv_n","__mv_part","__mv__chunked_idx"'


def test_a_generating_command_without_fields_gets_an_empty_body(splunkd: Splunkd) -> None:
    assert splunkd.search("| standingenerate count=1").rows == [{"n": "0", "part": "0", "asked": ""}]


def test_a_generating_command_must_come_first(splunkd: Splunkd) -> None:
    result = splunkd.search("| makeresults | standingenerate")
    assert result.errors == [
        "Error in 'standingenerate' command: This command must be the first command of a search."
    ]


def test_commands_are_piped_into_each_other(splunkd: Splunkd) -> None:
    result = splunkd.search(
        "| standingenerate count=3 | standintyped add=x type=streaming | standintyped add=y fields=x"
    )
    assert [(r["n"], r["x"], r["y"]) for r in result.rows] == [
        ("0", "0", "0"),
        ("1", "1", "1"),
        ("2", "2", "2"),
    ]


def test_head_ends_the_commands_before_it(make_splunkd: MakeSplunkd) -> None:
    splunkd = make_splunkd(chunk_rows=10)
    result = splunkd.search("| makeresults count=1000 | standintyped add=n | head 3 | fields n")
    assert result.state == "DONE"
    assert [r["n"] for r in result.rows] == ["0", "1", "2"]
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("how", "errors"),
    [
        ("error_getinfo", ["Error in 'standinmisbehave' command: bad option x"]),
        ("error_execute", ["Error in 'standinmisbehave' command: it broke"]),
        ("told_twice", ["Error in 'standinmisbehave' command: it broke"]),
        (
            "die_early",
            [
                "Error in 'standinmisbehave' command: External search command exited unexpectedly with non-zero error code 1."
            ],
        ),
        # The inspector message of the getinfo reply is lost (9.4.6).
        (
            "inspector_getinfo",
            [
                "Error in 'standinmisbehave' command: External search command exited unexpectedly with non-zero error code 1."
            ],
        ),
        (
            "inspector_mid",
            [
                "it went wrong",
                "Error in 'standinmisbehave' command: External search command exited unexpectedly with non-zero error code 3.",
            ],
        ),
        (
            "silent_exit",
            ["Error in 'standinmisbehave' command: External search command exited unexpectedly."],
        ),
        ("bad_type", ["Error in 'standinmisbehave' command: Invalid custom search command type: eventing."]),
        (
            "unknown_key",
            ["Error in 'standinmisbehave' command: Invalid key 'requires_preop' in the getinfo reply."],
        ),
        (
            "preop",
            ["Error in 'standinmisbehave' command: the splunkd stand-in does not run streaming_preop."],
        ),
        *(
            (
                how,
                [
                    "Error in 'standinmisbehave' command: Invalid message received from external search command during "
                    "search, see search.log."
                ],
            )
            for how in ("bad_header", "long_header", "bad_json")
        ),
    ],
)
def test_a_command_that_goes_wrong_fails_the_search(splunkd: Splunkd, how: str, errors: list[str]) -> None:
    # Two chunks, so that a command may go wrong between them.
    splunkd.config.chunk_rows = 3
    result = splunkd.search(f"| inputlookup abc.csv | standinmisbehave {how}")
    assert (result.state, result.is_failed) == ("FAILED", True)
    assert result.errors == errors


def test_an_error_only_in_the_inspector_of_the_last_reply_leaves_the_job_done(splunkd: Splunkd) -> None:
    """What splunklib's exceptions do on 9.4.6 (facts/splunk_app.md 1.7)."""
    result = splunkd.search("| inputlookup abc.csv | standinmisbehave inspector_done")
    assert (result.state, result.is_failed, result.rows) == ("DONE", False, [])
    assert result.messages == [("ERROR", "it went wrong")]


def test_warnings_stand_beside_the_error(splunkd: Splunkd) -> None:
    assert splunkd.search("| makeresults | standinmisbehave error_execute").warnings == ["careful"]


def test_what_goes_to_stderr_is_logged_as_an_error(splunkd: Splunkd) -> None:
    result = splunkd.search("| makeresults | standinmisbehave stderr")
    assert result.stderr.splitlines() == ["a warning", "and more"]
    assert "ChunkedExternProcessorStderrLogger] - stderr: a warning" in result.log
    assert result.state == "DONE"


def test_two_replies_to_one_request_are_noticed(splunkd: Splunkd) -> None:
    splunkd.config.chunk_rows = 3
    result = splunkd.search("| inputlookup abc.csv | standinmisbehave two_replies")
    assert "Failure writing result chunk, buffer full" in result.log


def test_a_last_reply_that_is_not_finished_fails(splunkd: Splunkd) -> None:
    result = splunkd.search("| makeresults | standinmisbehave unfinished")
    assert result.is_failed
    assert "finished=true" in result.errors[0]


def test_a_command_may_end_before_its_input(splunkd: Splunkd) -> None:
    splunkd.config.chunk_rows = 2
    result = splunkd.search("| inputlookup abc.csv | standinmisbehave early_end")
    assert (result.state, len(result.rows)) == ("DONE", 2)


def test_odd_inspector_entries_are_logged(splunkd: Splunkd) -> None:
    result = splunkd.search("| makeresults | standinmisbehave odd_inspector")
    assert result.messages == [("INFO", "hey")]
    assert "Error adding inspector message" in result.log


def test_maxwait_and_maxchunksize_end_a_command(splunkd: Splunkd) -> None:
    assert "timed out after 1 seconds" in splunkd.search("| makeresults | standinslow slow").errors[0]
    assert "maxchunksize is 100" in splunkd.search("| makeresults | standinsmall big").errors[0]


def test_commands_that_cannot_start_are_refused(splunkd: Splunkd) -> None:
    assert splunkd.search("| makeresults | standinmissing").errors == [
        "Error in 'standinmissing' command: Cannot find program 'not_there.py' or script 'not_there.py'."
    ]
    assert "chunked = true" in splunkd.search("| makeresults | standinold").errors[0]
    assert splunkd.search("| makeresults | nonsense").errors == ["Unknown search command 'nonsense'."]


def test_a_command_is_hidden_from_those_who_may_not_read_it(splunkd: Splunkd) -> None:
    splunkd.add_user("ann", "pw", roles=["user"])
    splunkd.add_user("bob", "pw", roles=["standin_trusted"])
    assert splunkd.search("| makeresults | standinsecret", user="ann").errors == [
        "Unknown search command 'standinsecret'."
    ]
    assert splunkd.search("| makeresults | standinsecret", user="bob").state == "DONE"


def test_previews_run_only_where_the_command_allows_them(make_splunkd: MakeSplunkd) -> None:
    seen: list[tuple[str, bytes]] = []
    splunkd = make_splunkd(preview=True, on_message=lambda name, _, m: seen.append((name, m)))
    result = splunkd.search("| makeresults count=2 | standintyped add=n | standinmisbehave stderr")
    assert result.preview == []
    assert ("standintyped", True) in [(n, b'"preview":true' in m) for n, m in seen]
    assert ("standinmisbehave", True) not in [(n, b'"preview":true' in m) for n, m in seen]
    assert [r["n"] for r in splunkd.search("| makeresults count=2 | standintyped add=n").preview] == [
        "0",
        "1",
    ]
    splunkd.config.preview = "force"
    assert len(splunkd.search("| makeresults count=2 | standinmisbehave stderr").preview) == 2
