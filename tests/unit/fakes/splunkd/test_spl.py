"""Searches are taken apart, and built-in commands do what the Search Reference says."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.splunkd import SearchResult, SplSyntaxError, Splunkd
from fakes.splunkd.spl import split_pipeline, split_words

DATA = "g,x,t\na,1,red\nb,10,blue\na,2.5,\nb,,red\n"


@pytest.fixture
def run(make_splunkd: Callable[..., Splunkd]) -> Callable[[str], SearchResult]:
    splunkd = make_splunkd(lookups={"d.csv": DATA}, chunk_rows=3)
    return lambda search: splunkd.search(search.replace("D |", "| inputlookup d.csv |"))


def column(result: SearchResult, name: str) -> list[str]:
    assert result.state == "DONE", result.messages
    return [row[name] for row in result.rows]


@pytest.mark.parametrize(
    ("search", "commands"),
    [
        ("| a x | b", [("a", "x"), ("b", "")]),
        ("search x | b", [("search", "x"), ("b", "")]),
        ('| a "x | y" | b', [("a", '"x | y"'), ("b", "")]),
        (r'| a "x \" | y" | b', [("a", r'"x \" | y"'), ("b", "")]),
        ("| a [| c | d] | b", [("a", "[| c | d]"), ("b", "")]),
        ('| a"x"', [("a", '"x"')]),
        ("| a `m(1|2)` | b", [("a", "`m(1|2)`"), ("b", "")]),
    ],
)
def test_pipes_split_outside_quotes_and_brackets(search: str, commands: list[tuple[str, str]]) -> None:
    assert [(c.name, c.text) for c in split_pipeline(search)] == commands


@pytest.mark.parametrize("search", ["", "|", "| a || b", '| a "x', "| a [ b", "| a |"])
def test_broken_searches_are_refused(search: str) -> None:
    with pytest.raises(SplSyntaxError):
        split_pipeline(search)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('a=one b = "two" "c"="three"', ["a=one", "b", "=", "two", "c=three"]),
        (r'p="\w+" q="a \"b\" \\ c"', [r"p=\w+", r'q=a "b" \ c']),
        ('"probability(y=1)" into app:m', ["probability(y=1)", "into", "app:m"]),
        ("f(a, b)", ["f(a,", "b)"]),
        ("x [ y z ]", ["x", "[ y z ]"]),
    ],
)
def test_words(text: str, values: list[str]) -> None:
    assert [w.value for w in split_words(text)] == values


@pytest.mark.parametrize(
    ("search", "fields"),
    [
        ("D | fields x g", ["x", "g"]),
        ("D | fields - x", ["g", "t"]),
        ("D | fields -x,t", ["g"]),
        ("D | fields + *", ["g", "x", "t"]),
        ("D | table t, none, x", ["t", "none", "x"]),
        ("D | eval _h=1 | table *", ["g", "x", "t"]),
        ("D | eval _h=1 | fields x", ["x", "_h"]),
        ('D | rename g as group, x AS "the x"', ["group", "the x", "t"]),
        ("D | rename * as in_*", ["in_g", "in_x", "in_t"]),
        ("D | rename g as x", ["x", "t"]),
        ("| makeresults", ["_time"]),
    ],
)
def test_fields_are_chosen_and_named(
    run: Callable[[str], SearchResult], search: str, fields: list[str]
) -> None:
    assert run(search).fields == fields


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3 % 4", "1"),
        ("-x / 4", "-0.25"),
        ("x / 0", ""),
        ("\"a\" . x . 'g'", "a1a"),
        ('"a" + "b"', "ab"),
        ('"a" + 1', ""),
        ("none + 1", ""),
        ('if(x > 0.5 AND NOT g="b", "yes", "no")', "yes"),
        ('case(x=2, "two", x=1, "one")', "one"),
        ('case(x=2, "two")', ""),
        ('coalesce(none, t, "z")', "red"),
        ("if(isnull(none) XOR isnotnull(x), 1, 2)", "2"),
        ("round(2.5)", "3"),
        ("round(-2.345, 2)", "-2.35"),
        ("floor(2.7) + ceil(2.1) + abs(-1)", "6"),
        ("pow(2, 3) + sqrt(16) + exp(0) + ln(1) + log(100)", "15"),
        ("min(3, x, 2) + max(3, x)", "4"),
        ('len(t) . upper(t) . lower("X") . substr(t, 2) . substr(t, -2, 1)', "3REDxede"),
        ('replace(t, "e", "o")', "rod"),
        ('if(match(t, "^r") AND like(t, "r%") AND t LIKE "_ed" AND g IN ("a", "z"), 1, 0)', "1"),
        ('tonumber("12") + 1', "13"),
        ("tostring(x)", "1"),
        ('if("10" > "9", "number", "text")', "number"),
        ('if("b" >= "a" AND 1 <= 1 AND 1 != 2 AND 2 < 3, 1, 0)', "1"),
        ("sqrt(-1)", ""),
        ("if(isnum(x) AND true() AND NOT false(), 1, 0)", "1"),
        ("if(now() > 1 AND random() >= 0, 1, 0)", "1"),
        ("null()", ""),
        ("+x", "1"),
        ("sin(0) + cos(0)", "1"),
    ],
)
def test_eval(run: Callable[[str], SearchResult], expression: str, value: str) -> None:
    assert column(run(f"D | head 1 | eval r={expression}"), "r") == [value]


def test_eval_assigns_several_in_order(run: Callable[[str], SearchResult]) -> None:
    result = run('D | head 1 | eval a=x+1, "b c"=if(a=2, "x,y", "z"), \'d\'=a*2')
    assert (result.rows[0]["a"], result.rows[0]["b c"], result.rows[0]["d"]) == ("2", "x,y", "4")


@pytest.mark.parametrize(
    ("filter_", "xs"),
    [
        ("where x > 1.5", ["10", "2.5"]),
        ('where t="red"', ["1", ""]),
        ("search g=a", ["1", "2.5"]),
        ("search g=A x<2", ["1"]),
        ('search g=a OR t="red"', ["1", "2.5", ""]),
        ("search NOT g=a", ["10", ""]),
        ("search t=*", ["1", "10", ""]),
        ("search t!=red", ["10"]),
        ("search x>=2.5 x<=10", ["10", "2.5"]),
        ("search g IN (b, c)", ["10", ""]),
        ("search (g=a AND x=1) OR t=bl*", ["1", "10"]),
        ("search x=2.50", ["2.5"]),
        ("search g>a", ["10", ""]),
        ("search *", ["1", "10", "2.5", ""]),
        ("search", ["1", "10", "2.5", ""]),
        ("head 2", ["1", "10"]),
        ("head limit=1", ["1"]),
        ("tail 2", ["", "2.5"]),
        ("reverse", ["", "2.5", "10", "1"]),
        ("sort x", ["1", "2.5", "10", ""]),
        ("sort 2 -x", ["", "10"]),
        ("sort g, - num(x)", ["2.5", "1", "", "10"]),
        ("sort - t + x", ["1", "10", "2.5", ""]),
        ("dedup g", ["1", "10"]),
        ("dedup t", ["1", "10"]),
        ("fillnull value=0 x", ["1", "10", "2.5", "0"]),
    ],
)
def test_rows_are_filtered_and_ordered(
    run: Callable[[str], SearchResult], filter_: str, xs: list[str]
) -> None:
    got = column(run(f"D | {filter_}"), "x")
    assert sorted(got) == sorted(xs) if filter_.startswith("sort - t") else got == xs


@pytest.mark.parametrize(
    ("stats", "rows"),
    [
        ("count", [{"count": "4"}]),
        ("count by g", [{"g": "a", "count": "2"}, {"g": "b", "count": "2"}]),
        (
            "c(x) as n, sum(x) as s avg(x) min(x) max(x)",
            [{"n": "3", "s": "13.5", "avg(x)": "4.5", "min(x)": "1", "max(x)": "10"}],
        ),
        ("dc(t) as d values(t) as v list(g) as l", [{"d": "2", "v": "blue\nred", "l": "a\nb\na\nb"}]),
        (
            "first(x) as f last(t) as l earliest(x) as e latest(x) as n",
            [{"f": "1", "l": "red", "e": "2.5", "n": "1"}],
        ),
        ("median(x) as m range(x) as r", [{"m": "2.5", "r": "9"}]),
        (
            "count by g t",
            [
                {"g": "a", "t": "red", "count": "1"},
                {"g": "b", "t": "blue", "count": "1"},
                {"g": "b", "t": "red", "count": "1"},
            ],
        ),
        ("sum(none) as s stdev(none) as d", [{"s": "", "d": ""}]),
        ('max(t) as "the t"', [{"the t": "red"}]),
    ],
)
def test_stats(run: Callable[[str], SearchResult], stats: str, rows: list[dict[str, Any]]) -> None:
    assert run(f"D | stats {stats}").rows == rows


def test_streamstats_runs_along(run: Callable[[str], SearchResult]) -> None:
    result = run(
        "D | streamstats count sum(x) as s avg(x) as m min(x) as lo max(x) as hi | streamstats count as n by g"
    )
    assert column(result, "count") == ["1", "2", "3", "4"]
    assert column(result, "s") == ["1", "11", "13.5", "13.5"]
    assert column(result, "hi") == ["1", "10", "10", "10"]
    assert column(result, "n") == ["1", "1", "2", "2"]
    assert column(run("D | streamstats count(t) as n"), "n") == ["1", "2", "2", "3"]


def test_lookups_are_found_read_and_written(make_splunkd: Callable[..., Splunkd], tmp_path: Path) -> None:
    (tmp_path / "z.csv.gz").write_bytes(gzip.compress(b'\xef\xbb\xbfa,b\n1,"x\ny"\n\n2\n'))
    splunkd = make_splunkd(lookups=tmp_path)
    assert splunkd.search("| inputlookup z.csv.gz").rows == [{"a": "1", "b": "x\ny"}, {"a": "2", "b": ""}]
    assert splunkd.search("| inputlookup shipped.csv").rows == [{"a": "1", "b": "x"}]
    assert len(splunkd.search("| inputlookup z.csv.gz start=1 max=5").rows) == 1
    assert len(splunkd.search("| makeresults | inputlookup append=t shipped.csv").rows) == 2
    assert splunkd.search("| makeresults | eval a=1 | table a | outputlookup new.csv").state == "DONE"
    splunkd.search("| makeresults | stats values(_time) as a | outputlookup new.csv append=t")
    splunkd.search("| makeresults | eval a=3 | table a | outputlookup z2.csv.gz append=t")
    assert len(splunkd.search("| inputlookup new.csv").rows) == 2
    assert splunkd.search("| inputlookup z2.csv.gz").rows == [{"a": "3"}]
    assert not (tmp_path / "new.csv").exists()
    splunkd.lookups.add("given.csv", tmp_path / "z.csv.gz")
    for name, text in (("no.csv", "does not exist"), ("../x", "Invalid lookup table name")):
        assert text in splunkd.search(f"| inputlookup {name}").errors[0]


def test_makeresults_append_and_macros(run: Callable[[str], SearchResult]) -> None:
    assert len(run("| makeresults count=7").rows) == 7
    assert run("| makeresults count=0").rows == []
    assert run('| makeresults format=csv data="a,b\n1,2"').rows == [{"a": "1", "b": "2"}]
    assert [
        sorted(r.items())
        for r in run("D | fields g | head 1 | append [| makeresults | eval n=1 | table n]").rows
    ] == [
        [("g", "a"), ("n", "")],
        [("g", ""), ("n", "1")],
    ]
    assert len(run("| `two_rows`").rows) == 2
    assert len(run("| `some_rows(4)`").rows) == 4
    assert "cannot be found" in run("| `nothing`").errors[0]


@pytest.mark.parametrize(
    ("search", "text"),
    [
        ("D | eval x", "missing or malformed"),
        ("D | eval x=1+", "malformed"),
        ("D | eval x=1 2", "malformed"),
        ("D | eval x=(1", "malformed"),
        ("D | eval x=if(1 2)", "malformed"),
        ("D | eval x=1; 2", "malformed"),
        ("D | eval x=g=1", "cannot be assigned a boolean"),
        ("D | eval x=mvcount(a)", "does not have the function mvcount()"),
        ("D | where", "malformed"),
        ("D | fields", "Invalid argument"),
        ("D | table", "Invalid argument"),
        ("D | rename a", "Usage"),
        ("D | stats", "at least one"),
        ("D | stats perc95(x)", "does not have 'perc95(x)'"),
        ("D | stats sum", "does not have 'sum'"),
        ("D | streamstats values(x)", "does not have streamstats values()"),
        ("D | sort", "No search fields"),
        ("D | head x", "does not have 'head x'"),
        ("D | search a=", "Unable to parse"),
        ("D | search (a=1", "Unable to parse"),
        ("D | search a=1 )", "Unable to parse"),
        ("D | search a IN (b =", "Unable to parse"),
        ("D | search [ x ]", "subsearches"),
        ("| inputlookup d.csv where x=1", "does not have"),
        ("| inputlookup d.csv strange=1", "does not have the option strange="),
        ("| inputlookup d.csv append=maybe", "Expecting a 'boolean'"),
        ("| makeresults 3", "Invalid argument"),
        ("| makeresults annotate=t", "annotate=true"),
        ("| makeresults format=json data=x", "another format"),
        ("D | inputlookup d.csv", "must be the first command"),
        ("D | append x", "must be a subsearch"),
        ("D | outputlookup", "name is required"),
        ("search index=x earliest=rt-1m", "real-time"),
        ("search index=x earliest=soon", "Invalid time modifier"),
    ],
)
def test_what_the_stand_in_does_not_speak_is_refused(
    run: Callable[[str], SearchResult], search: str, text: str
) -> None:
    result = run(search)
    assert result.is_failed
    assert text in result.errors[0]
