"""New columns as CSV records."""

import subprocess
import sys

import numpy as np
import pytest

from kepler.adapters.storage.csv_fragments import quoted, render_outputs, render_text
from kepler.ports.serving import NumberOutput, Scoring, TextOutput


def render(*outputs, n_rows):
    return render_outputs(Scoring(outputs), n_rows)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (1 / 3, "0.3333333333333333"),
        (1e22, "1e+22"),
        (9999999999.0, "9999999999.0"),
        (1e10, "1e+10"),
        (5e-324, "5e-324"),
        (float("inf"), "inf"),
        (float("nan"), ""),
    ],
)
def test_numbers_are_the_shortest_text_that_reads_back(value, text):
    got, one_line = render(NumberOutput("x", np.array([value])), n_rows=1)
    assert got.decode() == text + "\n"
    assert one_line
    if text:
        assert float(text) == value


def test_whole_numbers_have_no_point():
    assert render(NumberOutput("k", np.array([1, -1], np.int64)), n_rows=2)[0] == b"1\n-1\n"


def test_float32_values_are_taken_too():
    assert render(NumberOutput("x", np.array([0.5], np.float32)), n_rows=1)[0] == b"0.5\n"


def test_blank_rows_and_several_columns():
    blank = np.array([False, True])
    got = render(
        NumberOutput("x", np.array([1.5, 2.5]), blank),
        TextOutput("t", np.array([0, -1], np.int32), ("é",)),
        NumberOutput("k", np.array([3, 4], np.int64), blank),
        n_rows=2,
    )
    assert got == ('1.5,"é",3\n,,\n'.encode(), True)


def test_line_breaks_are_said():
    assert render(TextOutput("t", np.array([0], np.int32), ("a\nb",)), n_rows=1) == (b'"a\nb"\n', False)
    assert render(TextOutput("t", np.array([0], np.int32), ("a\rb",)), n_rows=1)[1] is False


def test_no_columns_or_no_rows():
    assert render(n_rows=2) == (b"\n\n", True)
    assert render(NumberOutput("x", np.array([])), n_rows=0) == (b"", True)
    assert render_text([], 1) == (b"\n", True)


@pytest.mark.parametrize("plain", ["", "abc", "A.b+c-1"])
def test_plain_values_stay(plain):
    assert quoted(plain) == plain


@pytest.mark.parametrize("odd", ["a b", "a,b", "a_b", "é", '"', "\n"])
def test_everything_else_is_quoted(odd):
    assert quoted(odd) == '"' + odd.replace('"', '""') + '"'


def test_rendering_does_not_import_pandas():
    code = (
        "import sys, numpy as np\n"
        "from kepler.adapters.storage.csv_fragments import render_outputs\n"
        "from kepler.ports.serving import *\n"
        "o = (NumberOutput('x', np.array([1.0, 2.5])), TextOutput('t', np.array([0, -1], np.int32), ('a b',)))\n"
        "assert render_outputs(Scoring(o), 2)[0]\n"
        "assert 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
