"""Words and options of search arguments."""

from __future__ import annotations

from kepler_app.lexer import boolean, choice, duration_s, integer, parse, share, split_list
from unit.splunk_app.plain import refused


def words(*raw: str) -> list[str]:
    return [word.text for word in parse(raw).words]


def test_words_and_options_stand_anywhere() -> None:
    parsed = parse(["k=3", "KMeans", "a", "random_state=4", "b"])
    assert [word.text for word in parsed.words] == ["KMeans", "a", "b"]
    assert parsed.options == {"k": "3", "random_state": "4"}


def test_splunk_splits_around_the_sign_and_keeps_quotes() -> None:
    # What Splunk 8.2.1 makes of `a=one b = "two" "c"="three"`.
    parsed = parse(["a=one", "b", "=", '"two"', '"c"="three"'])
    assert parsed.options == {"a": "one", "b": "two", "c": "three"}
    assert parsed.words == []


def test_quoted_names_keep_signs_blanks_and_parentheses() -> None:
    assert words('"probability(y=1)"', '"a b"', '"x, y"', '"say \\"hi\\""', '"two""quotes"') == [
        "probability(y=1)",
        "a b",
        "x, y",
        'say "hi"',
        'two"quotes',
    ]


def test_bare_parentheses_shield_the_sign() -> None:
    assert words("probability(y=1)", "predicted(a,b)") == ["probability(y=1)", "predicted(a,b)"]


def test_commas_separate_words_and_mark_them() -> None:
    parsed = parse(["m1,", "m2", ",m3", "x"])
    assert [(word.text, word.joined) for word in parsed.words] == [
        ("m1", False),
        ("m2", True),
        ("m3", True),
        ("x", False),
    ]


def test_values_hold_commas_signs_and_quotes() -> None:
    assert parse(['f="a, b"', "g=1,2,3", "h=a=b", "i=x,", "y", "j=", "9"]).options == {
        "f": "a, b",
        "g": "1,2,3",
        "h": "a=b",
        "i": "x,y",
        "j": "9",
    }


def test_an_empty_value_may_be_quoted() -> None:
    assert parse(['a=""', "b"]).options == {"a": ""}


def test_an_argument_that_lost_its_quotes_gets_them_back() -> None:
    parsed = parse(["field with blanks", "as=new name", "x"])
    assert [word.text for word in parsed.words] == ["field with blanks", "x"]
    assert parsed.options == {"as": "new name"}


def test_option_names_keep_their_case_and_are_found_in_any() -> None:
    parsed = parse(["C=3", "Output=none"])
    assert parsed.take("output") == "none"
    assert parsed.options == {"C": "3"}


def test_keywords_are_bare() -> None:
    parsed = parse(["FROM", '"from"'])
    assert [word.is_keyword("from") for word in parsed.words] == [True, False]
    assert "from" in repr(parsed.words[1])


def test_what_cannot_be_read_is_refused() -> None:
    with refused("not closed"):
        parse(['"open'])
    with refused("without an option name"):
        parse(["=3"])
    with refused("k= has no value"):
        parse(["k="])
    with refused("k= has no value"):
        parse(["k=,x"])
    with refused("K= is given twice"):
        parse(["k=1", "K=2"])
    with refused("is not an option name", "double quotes"):
        parse(["a-b=2"])


def test_take_knows_synonyms_and_refuses_both() -> None:
    arguments = parse(["algo=x", "left=1"])
    assert arguments.take("algorithm", "algo") == "x"
    assert arguments.take("algo") == ""
    with refused("no option left=", "model="):
        arguments.refuse_rest("keplerdelete", ["model"])
    with refused("no option left=", "no options"):
        arguments.refuse_rest("keplerhealth", [])
    with refused("mean the same"):
        parse(["algo=x", "algorithm=y"]).take("algo", "algorithm")


def test_lists_keep_quoted_commas() -> None:
    assert split_list('a, "b, c",d_*') == ["a", "b, c", "d_*"]
    assert split_list("a b,c") == ["a b", "c"]
    assert split_list("") == []
    assert split_list("a,,b,") == ["a", "b"]


def test_values_have_types() -> None:
    assert [boolean("x", text) for text in ("t", "TRUE", "1", "f", "False", "0")] == [True] * 3 + [False] * 3
    assert integer("x", " 7 ", 0, 9) == 7
    assert share("x", "0.25") == 0.25
    assert [duration_s("x", text) for text in ("90", "90s", "10m", "2h", "1day", "1.5 h")] == [
        90,
        90,
        600,
        7200,
        86400,
        5400,
    ]
    assert choice("x", "DROP", ("drop", "keep")) == "drop"


def test_wrong_values_name_option_and_expectation() -> None:
    with refused("'maybe' for probabilities=", "true or false"):
        boolean("probabilities", "maybe")
    for text in ("x", "1.5", "10", "-1", "9" * 30):
        with refused("for seed=", "from 0 to 9"):
            integer("seed", text, 0, 9)
    for text in ("1", "-0.1", "nan", "half"):
        with refused("for test_size="):
            share("test_size", text)
    with refused("for timeout=", "10m"):
        duration_s("timeout", "soon")
    with refused("for nulls=", "drop, impute"):
        choice("nulls", "ignore", ("drop", "impute"))
