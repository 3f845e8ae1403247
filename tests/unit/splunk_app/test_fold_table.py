"""kfold_cv: the figures of each fold under the toolkit's names."""

from __future__ import annotations

from types import SimpleNamespace

from kepler_app.commands.train import fold_table


def metrics(**values: float) -> list[SimpleNamespace]:
    return [SimpleNamespace(name=name, value=value) for name, value in values.items()]


def test_one_row_for_each_fold_in_the_toolkits_order() -> None:
    given = metrics(
        cv_f1_mean=0.5, cv_f1_std=0.1, cv_f1_1=0.4, cv_f1_2=0.6, cv_accuracy_1=0.7, cv_accuracy_2=0.8,
        cv_roc_auc_1=0.9, cv_roc_auc_2=1.0,
    )  # fmt: skip
    columns, rows = fold_table(given, 2)
    assert columns == ["fold", "accuracy", "f1_weighted", "roc_auc"]
    assert rows == [["1", "0.7", "0.4", "0.9"], ["2", "0.8", "0.6", "1.0"]]


def test_errors_are_negative_mean_squares() -> None:
    columns, rows = fold_table(metrics(cv_r2_1=0.5, cv_rmse_1=2.0, cv_mae_1=1.5, rows=7), 1)
    assert columns == ["fold", "neg_mean_squared_error", "r2", "mae"]
    assert rows == [["1", "-4.0", "0.5", "1.5"]]


def test_a_fold_without_a_figure_has_an_empty_cell() -> None:
    assert fold_table(metrics(cv_r2_1=0.5), 2)[1] == [["1", "0.5"], ["2", ""]]
