"""Bad input: one clear sentence in the search, a failed job, nothing lost, and the service goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import Standin
from e2e.raw import Conversation, cells, getinfo
from e2e.real_sets import columns, lookups
from fakes.splunkd import SearchResult, Splunkd, find_python
from support.running_service import RunningService

IRIS = "| inputlookup iris.csv"
ROWS = 150
QUOTED = (
    'name,a,b\n"two\nlines","1",2\n"a ""quoted"" one, with a comma",3,4\n"three\n\nlines",5,6\nplain,7,9\n'
)
HOSTILE = {
    "text.csv": "sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n5.0,wide,1.3,0.3\n",
    "null.csv": "a,empty,y\n" + "".join(f"{i},,{2 * i}\n" for i in range(20)),
    "quoted.csv": QUOTED,
}


def sentence(result: SearchResult) -> str:
    """The one error of a failed search."""
    assert result.is_failed
    assert result.state == "FAILED"
    assert result.rows == []
    assert len(result.errors) == 1, result.errors
    return check_sentence(result.errors[0])


def check_sentence(text: str) -> str:
    assert "\n" not in text
    assert 20 < len(text) < 500, text
    assert text.endswith((".", "?")), text
    assert not re.search(r"Traceback|\.py\b|line \d+|Error\(|failed inside|0x[0-9a-f]{6}", text), text
    return text


@pytest.fixture(scope="module")
def hostile(service: RunningService, standin: Standin) -> Iterator[Splunkd]:
    """The bundled sets and the hostile ones, and a model that knows iris."""
    with standin(service.grpc, lookups={**lookups(), **HOSTILE}) as splunkd:
        assert not splunkd.search(f"{IRIS} | keplertrain GaussianNB species from * into app:bad_nb").errors
        assert not splunkd.search(
            f"{IRIS} | keplertrain LinearRegression petal_width from petal_length into bad_lin"
        ).errors
        yield splunkd


@pytest.fixture(autouse=True)
def _goes_on(service: RunningService, hostile: Splunkd) -> Iterator[None]:
    """After each test the same service still answers for the same model, and no traceback went to its log."""
    yield
    assert service.process.poll() is None
    after = hostile.search(f"{IRIS} | keplerpredict app:bad_nb@1 | head 3")
    assert not after.is_failed, after.errors
    assert all(row["predicted(species)"] for row in after.rows)
    assert "Traceback" not in service.log


def test_an_unknown_algorithm_names_the_three_nearest(hostile: Splunkd) -> None:
    text = sentence(hostile.search(f"{IRIS} | keplertrain LigtGBMClasifier species from *"))
    assert "LigtGBMClasifier" in text
    near = re.search(r"nearest are (\w+), (\w+), (\w+)", text)
    assert near is not None
    assert near[1] == "LightGBMClassifier"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("n_estimatorz=5", ["n_estimatorz", "n_estimators"]),
        ("n_estimators=many", ["n_estimators", "integer"]),
        ("n_estimators=0", ["n_estimators", "from 1"]),
        ("max_depth=-3", ["max_depth", "at least 1", "from 1"]),
        ("bootstrap=perhaps", ["bootstrap", "true or false"]),
        ("criterion=guess", ["criterion", "gini"]),
        ("nulls=forget", ["nulls", "drop"]),
        ("test_size=2", ["test_size"]),
        ("kfold_cv=1", ["kfold_cv"]),
        ("timeout=soon", ["timeout"]),
    ],
)
def test_a_parameter_says_what_it_takes(hostile: Splunkd, options: str, names: list[str]) -> None:
    text = sentence(hostile.search(f"{IRIS} | keplertrain RandomForestClassifier species from * {options}"))
    assert names[0] in text
    assert any(name in text for name in names[1:] or names), text


@pytest.mark.parametrize(
    ("spl", "named"),
    [
        ("keplertrain GaussianNB specis from *", "'species'"),
        ("keplertrain GaussianNB species from petal_lenght", "'petal_length'"),
        ("keplerscore accuracy_score species against guess", "'guess'"),
        ("keplertrain GaussianNB from *", "field to predict"),
        ("keplertrain KMeans species from petal_length", "from"),
        ('keplertrain GaussianNB species from "petal_length', "quot"),
    ],
)
def test_a_missing_field_is_named(hostile: Splunkd, spl: str, named: str) -> None:
    assert named in sentence(hostile.search(f"{IRIS} | {spl}"))


def test_a_field_missing_at_predict(hostile: Splunkd) -> None:
    less = f"{IRIS} | fields - petal_length | keplerpredict app:bad_nb"
    assert "'petal_length'" in sentence(hostile.search(f"{less} on_missing=error"))
    warned = hostile.search(less)
    assert not warned.is_failed
    assert len(warned.rows) == ROWS
    assert {row["predicted(species)"] for row in warned.rows} == {""}
    assert any("'petal_length'" in text for text in warned.warnings)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("app:bad_nbb", "bad_nb"),
        ("app:bad_nb@7", "7"),
        ("app:bad_nb@prod", "prod"),
        ("../../etc/passwd", "passwd"),
        ('"no such model"', "no such model"),
    ],
)
def test_a_missing_model_or_version(hostile: Splunkd, model: str, named: str) -> None:
    assert named in sentence(hostile.search(f"{IRIS} | keplerpredict {model}"))


def test_text_in_a_numeric_field_at_predict(hostile: Splunkd) -> None:
    text = sentence(hostile.search("| inputlookup text.csv | keplerpredict app:bad_nb"))
    assert "'sepal_width'" in text
    assert "'wide'" in text


def test_empty_input(hostile: Splunkd) -> None:
    nothing = f'{IRIS} | search species="tulip"'
    assert "rows" in sentence(
        hostile.search(f"{nothing} | keplertrain GaussianNB species from * into app:bad_none")
    )
    predicted = hostile.search(f"{nothing} | keplerpredict app:bad_nb")
    assert not predicted.is_failed
    assert predicted.rows == []
    assert "bad_none" not in str(hostile.search("| keplermodels").rows)


def test_one_row(hostile: Splunkd) -> None:
    one = f"{IRIS} | head 1"
    assert "class" in sentence(hostile.search(f"{one} | keplertrain GaussianNB species from *"))
    predicted = hostile.search(f"{one} | keplerpredict app:bad_nb")
    whole = hostile.search(f"{IRIS} | keplerpredict app:bad_nb")
    assert predicted.rows == whole.rows[:1]


def test_a_field_without_any_value(hostile: Splunkd) -> None:
    done = hostile.search("| inputlookup null.csv | keplertrain LinearRegression y from a empty")
    assert not done.is_failed
    assert [round(float(row["predicted(y)"]), 6) for row in done.rows] == [2.0 * i for i in range(20)]
    assert any("empty" in text for _, text in done.messages)
    assert "empty" in sentence(
        hostile.search("| inputlookup null.csv | keplertrain LinearRegression y from empty")
    )


def test_quoted_line_breaks_work_row_for_row(hostile: Splunkd) -> None:
    names = ["two\nlines", 'a "quoted" one, with a comma', "three\n\nlines", "plain"]
    trained = hostile.search(
        "| inputlookup quoted.csv | keplertrain LinearRegression b from a into app:bad_quoted"
    )
    asked = hostile.search("| inputlookup quoted.csv | keplerpredict app:bad_quoted")
    for result in (trained, asked):
        assert not result.is_failed, result.errors
        assert [row["name"] for row in result.rows] == names
        assert [row["a"] for row in result.rows] == ["1", "3", "5", "7"]
        assert all(float(row["predicted(b)"]) > 0 for row in result.rows)


def test_two_columns_of_one_name(
    service: RunningService, hostile: Splunkd, installed: Path, tmp_path: Path, python: str | None
) -> None:
    """Splunk does not send them; a command before ours might."""
    body = b"petal_length,petal_length,species\n1.4,5.5,x\n4.4,0.1,y\n"
    for command, args in (
        ("keplerpredict", ["bad_lin"]),
        ("keplertrain", ["LinearRegression", "petal_length", "from", "petal_length"]),
    ):
        talk = Conversation(find_python(python), installed, command, tmp_path, KEPLER_ADDRESS=service.grpc)
        with talk:
            talk.say(getinfo(*args))
            head, back = talk.execute(body, finished=True)
        if head.get("error"):
            assert "petal_length" in check_sentence(head["error"])
            assert back == b""
        else:
            assert [row[:3] for row in cells(back)] == cells(body)


def test_nothing_is_lost(hostile: Splunkd) -> None:
    """What was there before all this is there after it; no failed training left a model."""
    names = {row["model"] for row in hostile.search("| keplermodels").rows}
    assert {"app.search/bad_nb", "user.admin/bad_lin"} <= names
    again = hostile.search(f"{IRIS} | keplerpredict app:bad_nb")
    right = sum(row["predicted(species)"] == row["species"] for row in again.rows)
    assert right > 0.9 * ROWS
    assert [row["species"] for row in again.rows] == columns("iris.csv")["species"]
