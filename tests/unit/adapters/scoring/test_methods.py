"""Scores are scikit-learn's, for whole results and for each group."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from kepler.adapters.scoring.methods import SklearnScoring
from kepler.adapters.storage.csv_slices import SliceReader
from kepler.core.errors import InvalidInput
from kepler.usecases.score import ScoreOrder, ScoreResult, ScoreRows

RNG = np.random.default_rng(3)
TRUTH = RNG.integers(0, 2, 200)
GUESS = np.where(RNG.random(200) < 0.2, 1 - TRUTH, TRUTH)
SCORE = np.clip(GUESS * 0.6 + RNG.random(200) * 0.4, 0, 1)
VALUE = RNG.normal(10, 3, 200)
ESTIMATE = VALUE + RNG.normal(0, 1, 200)
GROUP = np.array(["a", "b"])[RNG.integers(0, 2, 200)]
COLUMNS = ("truth", "guess", "score", "value", "estimate", "group")
ROWS = "".join(
    f'{t},{g},"{s!r}","{v!r}","{e!r}",{k}\n'
    for t, g, s, v, e, k in zip(
        TRUTH, GUESS, SCORE.tolist(), VALUE.tolist(), ESTIMATE.tolist(), GROUP, strict=True
    )
).encode()


def score(
    methods: str, actual: str, predicted: str, by: str = "", rows: bytes = ROWS, **params: str
) -> ScoreResult:
    order = ScoreOrder(
        COLUMNS,
        tuple(methods.split()),
        tuple(actual.split()),
        tuple(predicted.split()),
        tuple(by.split()),
        params,
    )
    plan = ScoreRows(SklearnScoring()).open(order)
    reader = SliceReader(COLUMNS, plan.fields, frozenset())
    half = rows.find(b"\n", len(rows) // 2) + 1
    return plan.run([reader.read(rows[:half]), reader.read(rows[half:])])


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("accuracy_score", metrics.accuracy_score(TRUTH, GUESS)),
        ("precision_score", metrics.precision_score(TRUTH, GUESS)),
        ("recall_score", metrics.recall_score(TRUTH, GUESS)),
        ("f1_score", metrics.f1_score(TRUTH, GUESS)),
        ("mcc", metrics.matthews_corrcoef(TRUTH, GUESS)),
    ],
)
def test_class_methods(method, expected):
    table = score(method, "truth", "guess").table
    assert table.columns == ("actual", "predicted", method)
    assert float(table.rows[0][2]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("roc_auc_score", metrics.roc_auc_score(TRUTH, SCORE)),
        ("pr_auc", metrics.average_precision_score(TRUTH, SCORE)),
        ("log_loss", metrics.log_loss(TRUTH, SCORE)),
        ("brier", metrics.brier_score_loss(TRUTH, SCORE)),
    ],
)
def test_ranking_methods(method, expected):
    assert float(score(method, "truth", "score").table.rows[0][2]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("r2_score", metrics.r2_score(VALUE, ESTIMATE)),
        ("explained_variance_score", metrics.explained_variance_score(VALUE, ESTIMATE)),
        ("mse", metrics.mean_squared_error(VALUE, ESTIMATE)),
        ("rmse", metrics.root_mean_squared_error(VALUE, ESTIMATE)),
        ("mae", metrics.mean_absolute_error(VALUE, ESTIMATE)),
        ("mape", 100 * metrics.mean_absolute_percentage_error(VALUE, ESTIMATE)),
        ("smape", 200 * np.mean(np.abs(VALUE - ESTIMATE) / (np.abs(VALUE) + np.abs(ESTIMATE)))),
    ],
)
def test_regression_methods(method, expected):
    assert float(score(method, "value", "estimate").table.rows[0][2]) == pytest.approx(expected)


def test_several_methods_by_group_in_one_call():
    table = score("r2_score rmse", "value", "estimate", by="group").table
    assert table.columns == ("actual", "predicted", "group", "r2_score", "rmse")
    for row in table.rows:
        members = row[2] == GROUP
        assert float(row[3]) == pytest.approx(metrics.r2_score(VALUE[members], ESTIMATE[members]))


def test_one_actual_field_against_several():
    rows = score("rmse", "value", "estimate score").table.rows
    assert [row[1] for row in rows] == ["estimate", "score"]


def test_confusion_matrix_and_report_and_curve():
    table = score("confusion_matrix", "truth", "guess").table
    found = [[int(cell) for cell in row[3:]] for row in table.rows]
    assert found == metrics.confusion_matrix(TRUTH, GUESS).tolist()
    assert table.columns[2:] == ("class", "predicted(0)", "predicted(1)")
    report = score("precision_recall_fscore_support", "truth", "guess").table
    assert [int(row[-1]) for row in report.rows] == np.bincount(TRUTH).tolist()
    curve = score("roc_curve", "truth", "score").table
    assert curve.columns[2:] == ("fpr", "tpr", "thresholds")
    assert float(curve.rows[-1][3]) == 1.0


def test_classes_of_more_than_two_values_average_weighted():
    rows = b"a,a,1,1,1,x\nb,b,1,1,1,x\nc,b,1,1,1,x\n"
    assert float(score("f1_score", "truth", "guess", rows=rows).table.rows[0][2]) == pytest.approx(
        metrics.f1_score(list("abc"), list("abb"), average="weighted")
    )


def test_the_same_number_written_differently_is_the_same_class():
    rows = b"1,1.0,1,1,1,x\n0,0.0,1,1,1,x\n"
    assert score("accuracy_score", "truth", "guess", rows=rows).table.rows[0][2] == "1.0"


def test_pos_label_chooses_the_positive_class():
    found = score("recall_score", "truth", "guess", pos_label="0").table.rows[0][2]
    assert float(found) == pytest.approx(metrics.recall_score(TRUTH, GUESS, pos_label=0))


def test_rows_with_nulls_are_dropped_and_said():
    result = score("accuracy_score", "truth", "guess", rows=b"1,1,,,,\n0,,,,,\n")
    assert result.table.rows[0][2] == "1.0"
    assert "dropped 1 of 2 rows" in result.notices[0].text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("accuracy", "truth", "guess"), "no scoring method 'accuracy'"),
        (("", "truth", "guess"), "No scoring method is named"),
        (("r2_score", "truth", ""), "No field to compare with"),
        (("r2_score", "truth guess", "score value estimate"), "2 fields stand against 3"),
        (("roc_curve r2_score", "truth", "score"), "gives a table of its own"),
        (("r2_score", "nothing", "score"), "'nothing' is not in the rows"),
        (("r2_score", "group", "score"), "the field 'group' holds"),
        (("roc_auc_score", "value", "score"), "needs an actual field with two classes"),
        (("f1_score", "value", "estimate"), "classes"),
    ],
)
def test_wrong_orders_are_one_sentence(arguments, said):
    params = {"average": "binary"} if arguments[0] == "f1_score" else {}
    with pytest.raises(InvalidInput, match=said):
        score(*arguments, **params)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"avrage": "macro"}, "nearest is average"),
        ({"average": "mean"}, "Invalid value"),
        ({"pos_label": "7"}, "7"),
    ],
)
def test_wrong_parameters_are_one_sentence(params, said):
    with pytest.raises(InvalidInput, match=said):
        score("f1_score", "truth", "guess", **params)


def test_no_rows_and_no_complete_rows():
    with pytest.raises(InvalidInput, match="no rows to score"):
        score("r2_score", "truth", "guess", rows=b"")
    with pytest.raises(InvalidInput, match="No row has both"):
        score("r2_score", "truth", "guess", rows=b"1,,,,,\n")
