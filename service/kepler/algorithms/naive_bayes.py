"""Naive Bayes: fields are taken as independent within a class."""

from __future__ import annotations

from typing import Any

from kepler.algorithms._fitting import fit_classifier, go_on_classifier
from kepler.algorithms._tables import class_label, table, with_params
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, param


@algorithm("GaussianNB", task=Task.CLASSIFICATION)
class GaussianNB:
    """Each field follows a normal distribution in each class.

    Missing values are not taken. Source: scikit-learn `GaussianNB`.
    """

    var_smoothing: float = param(
        1e-9, low=0.0, high=1e6, log=True, help="Share of the largest variance added to all variances."
    )

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        return self._described(fit_classifier(self._make(), data, run), data)

    def partial_fit(self, data: TrainingSet, run: Run, earlier: Any) -> Fitted:
        """Go on from ``earlier``; counts, means and variances are those of all rows so far."""
        return self._described(go_on_classifier(self._make(), data, run, earlier), data)

    def _make(self) -> Any:
        from sklearn import naive_bayes

        return naive_bayes.GaussianNB(var_smoothing=self.var_smoothing)

    def _described(self, fitted: Fitted, data: TrainingSet) -> Fitted:
        learned = fitted.estimator
        rows = [
            (class_label(data, index), name, mean, variance)
            for index, means, variances in zip(fitted.class_index, learned.theta_, learned.var_, strict=True)
            for name, mean, variance in zip(data.feature_names, means, variances, strict=True)
        ]
        fitted.summary = with_params(self, {"default": table(("class", "feature", "mean", "variance"), rows)})
        return fitted


@algorithm("BernoulliNB", task=Task.CLASSIFICATION)
class BernoulliNB:
    """Each field is yes or no, yes above ``binarize``.

    Missing values are not taken. Source: scikit-learn `BernoulliNB`.
    """

    alpha: float = param(1.0, low=0.0, high=1e9, log=True, help="Counts added to every case.")
    binarize: Any = param(
        0.0, "float|choice", choices=("none",), help="Above this is yes; none: fields are 0 or 1."
    )
    fit_prior: bool = param(True, help="Learn how frequent each class is.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        return self._described(fit_classifier(self._make(), data, run), data)

    def partial_fit(self, data: TrainingSet, run: Run, earlier: Any) -> Fitted:
        """Go on from ``earlier``; the counts are those of all rows so far."""
        return self._described(go_on_classifier(self._make(), data, run, earlier), data)

    def _make(self) -> Any:
        from sklearn import naive_bayes

        binarize: Any = self.binarize
        return naive_bayes.BernoulliNB(alpha=self.alpha, binarize=binarize, fit_prior=self.fit_prior)

    def _described(self, fitted: Fitted, data: TrainingSet) -> Fitted:
        rows = [
            (class_label(data, index), name, chance)
            for index, chances in zip(fitted.class_index, fitted.estimator.feature_log_prob_, strict=True)
            for name, chance in zip(data.feature_names, chances, strict=True)
        ]
        fitted.summary = with_params(self, {"default": table(("class", "feature", "log_probability"), rows)})
        return fitted
