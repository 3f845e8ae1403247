"""Searches in the toolkit's own form and the columns its documentation says they add.

A listing of facts. Each search is written with the toolkit's verbs (fit, apply, summary, score); the tests
change the verbs and nothing else. What it takes from where: argument grammar, option places, namespaces and
column names from facts/splunk_ml_anchors.md 1.1, algorithms and their parameters from 1.3, scoring methods
from 1.2, quoting, wildcards and values from 4 and 5. Searches of one group run in order, on the sets of
`real_sets`; groups know nothing of each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

VERBS = {
    "fit": "keplertrain",
    "apply": "keplerpredict",
    "summary": "keplersummary",
    "score": "keplerscore",
    "listmodels": "keplermodels",
    "deletemodel": "keplerdelete",
}
_VERB = re.compile(r"(?<=\| )(" + "|".join(VERBS) + r")\b")


@dataclass(frozen=True)
class Search:
    """``adds`` are columns that the results must have; ``rows`` how many there must be, where it is known."""

    spl: str
    adds: tuple[str, ...] = ()
    rows: int | None = None

    @property
    def swapped(self) -> str:
        """The same search with our verbs."""
        return _VERB.sub(lambda match: VERBS[match[1]], self.spl)


def _of(spl: str, *adds: str, rows: int | None = None) -> Search:
    return Search(spl, adds, rows)


IRIS, WINE, CANCER, DIABETES = (
    f"| inputlookup {name}.csv" for name in ("iris", "wine", "cancer", "diabetes")
)
IRIS_CM = "| inputlookup iris_cm.csv"
_SPECIES = "predicted(species)"
_P_SPECIES = tuple(f"probability(species={name})" for name in ("setosa", "versicolor", "virginica"))
_P_DIAGNOSIS = ("probability(diagnosis=benign)", "probability(diagnosis=malignant)")
_PROGRESSION = "predicted(progression)"

GROUPS: tuple[tuple[Search, ...], ...] = (
    # Classifiers, their options in every place, and what is read back from their models.
    (
        _of(f"{IRIS} | fit LogisticRegression species from * into app:iris_lr probabilities=true", _SPECIES, *_P_SPECIES, rows=150),
        _of(f"{IRIS} | apply app:iris_lr", _SPECIES, rows=150),
        _of(f"{IRIS} | apply app:iris_lr as guess probabilities=true", "guess", *_P_SPECIES, rows=150),
        _of("| summary app:iris_lr", "feature", "coefficient"),
        _of(f'{IRIS} | apply app:iris_lr | score accuracy_score species against "predicted(species)"', "accuracy_score", rows=1),
        _of(f'{IRIS} | apply app:iris_lr | score precision_score species against "predicted(species)" average=weighted', "precision_score", rows=1),
        _of(f'{IRIS} | apply app:iris_lr | score recall_score species against "predicted(species)" average=macro', "recall_score", rows=1),
        _of(f'{IRIS} | apply app:iris_lr | score f1_score species against "predicted(species)" average=micro', "f1_score", rows=1),
        _of(f'{IRIS} | apply app:iris_lr | score confusion_matrix species against "predicted(species)"', rows=3),
        _of(
            f'{IRIS} | apply app:iris_lr | score precision_recall_fscore_support species against "predicted(species)"',
            "precision", "recall", "fbeta_score", "support", rows=3,
        ),
    ),
    (
        _of(f"{IRIS} | fit LogisticRegression fit_intercept=false species from petal_length petal_width", _SPECIES, rows=150),
        _of(f"{IRIS} | fit LogisticRegression species FROM petal_* INTO iris_upper", _SPECIES, rows=150),
        _of(f"{IRIS} | apply iris_upper AS guess", "guess", rows=150),
    ),
    (
        _of(f"{IRIS} | fit RandomForestClassifier species from * into iris_rf n_estimators=30 max_depth=5 random_state=42", _SPECIES, rows=150),
        _of(f"{IRIS} | apply iris_rf as \"the species\"", "the species", rows=150),
        _of("| summary iris_rf", "feature", "importance"),
        _of(
            f"{IRIS} | fit RandomForestClassifier n_estimators=10 species from * criterion=entropy max_features=2 min_samples_split=4 max_leaf_nodes=8",
            _SPECIES, rows=150,
        ),
    ),
    (
        _of(
            f'{IRIS_CM} | fit DecisionTreeClassifier "iris species" from "petal length (cm)" "petal width (cm)" into app:iris_dt splitter=best max_depth=3',
            "predicted(iris species)", rows=150,
        ),
        _of(f"{IRIS_CM} | apply app:iris_dt", "predicted(iris species)", rows=150),
        _of("| summary app:iris_dt limit=3"),
        _of(f'{IRIS_CM} | fit DecisionTreeClassifier "iris species" from "petal *" criterion=entropy random_state=1 as "a guess"', "a guess", rows=150),
    ),
    (
        _of(
            f"{IRIS} | fit GradientBoostingClassifier species from petal_* into iris_gb n_estimators=20 learning_rate=0.2 max_depth=3 min_samples_leaf=2 random_state=7",
            _SPECIES, rows=150,
        ),
        _of(f"{IRIS} | apply iris_gb probabilities=t", _SPECIES, *_P_SPECIES, rows=150),
        _of(f"{CANCER} | fit GradientBoostingClassifier diagnosis from \"mean *\" loss=exponential n_estimators=10 max_features=0.5", "predicted(diagnosis)", rows=569),
    ),
    (
        _of(
            f"{WINE} | fit StandardScaler * | fit MLPClassifier cultivar from SS_* into app:wine_mlp hidden_layer_sizes=100-100 max_iter=60 activation=relu solver=adam learning_rate=constant tol=0.01 random_state=3",
            "predicted(cultivar)", rows=178,
        ),
        _of(f"{IRIS} | fit MLPClassifier species from * hidden_layer_sizes=8 batch_size=50 max_iter=40 momentum=0.8 solver=sgd", _SPECIES, rows=150),
    ),
    (
        _of(f"{IRIS} | fit SGDClassifier species from * into iris_sgd partial_fit=true random_state=5 loss=log_loss", _SPECIES, rows=150),
        _of(f"{IRIS} | fit SGDClassifier species from * into iris_sgd partial_fit=true", _SPECIES, rows=150),
        _of(f"{IRIS} | apply iris_sgd", _SPECIES, rows=150),
        _of(
            f"{IRIS} | fit SGDClassifier species from * penalty=elasticnet l1_ratio=0.3 alpha=0.001 eta0=0.1 power_t=0.5 n_iter=20 loss=modified_huber",
            _SPECIES, rows=150,
        ),
    ),
    (
        _of(f"{IRIS} | fit BernoulliNB species from * into iris_bnb alpha=0.5 binarize=2 fit_prior=f partial_fit=true", _SPECIES, rows=150),
        _of(f"{IRIS} | fit GaussianNB species from * into iris_gnb partial_fit=true", _SPECIES, rows=150),
        _of(f"{IRIS} | apply iris_gnb probabilities=true", _SPECIES, *_P_SPECIES, rows=150),
    ),
    (
        _of(f"{CANCER} | fit StandardScaler \"mean *\" into cancer_ss | fit SVM diagnosis from SS_* into app:cancer_svm C=10 gamma=0.1", "predicted(diagnosis)", "SS_mean radius", rows=569),
        _of(f"{CANCER} | apply cancer_ss | apply app:cancer_svm as verdict", "verdict", rows=569),
        _of(f'{CANCER} | apply cancer_ss | apply app:cancer_svm as verdict | score accuracy_score diagnosis against verdict', "accuracy_score", rows=1),
    ),
    (
        _of(f'{CANCER} | fit LogisticRegression diagnosis from "mean texture" "mean smoothness" into app:cancer_lr probabilities=true', "predicted(diagnosis)", *_P_DIAGNOSIS, rows=569),
        _of(
            f'{CANCER} | apply app:cancer_lr probabilities=true | score roc_auc_score diagnosis against "probability(diagnosis=malignant)" pos_label=malignant',
            "roc_auc_score", rows=1,
        ),
        _of(
            f'{CANCER} | apply app:cancer_lr probabilities=true | score roc_curve diagnosis against "probability(diagnosis=malignant)" pos_label=malignant',
            "fpr", "tpr", "thresholds",
        ),
        _of("| listmodels", rows=None),
    ),
    # Cross-validation: figures for each fold instead of rows.
    (
        _of(f"{IRIS} | fit LogisticRegression species from * kfold_cv=3", "accuracy", "f1_weighted", "precision_weighted", "recall_weighted", rows=3),
        _of(f"{DIABETES} | fit LinearRegression progression from * kfold_cv=4", "neg_mean_squared_error", "r2", rows=4),
    ),
    # Regressors.
    (
        _of(f"{DIABETES} | fit LinearRegression progression from bmi bp s* into app:diabetes_lin", _PROGRESSION, rows=442),
        _of(f"{DIABETES} | apply app:diabetes_lin", _PROGRESSION, rows=442),
        _of("| summary app:diabetes_lin", "feature", "coefficient"),
        _of(f'{DIABETES} | apply app:diabetes_lin | score r2_score progression against "predicted(progression)"', "r2_score", rows=1),
        _of(f'{DIABETES} | apply app:diabetes_lin | score mean_squared_error progression against "predicted(progression)"', "mean_squared_error", rows=1),
        _of(f'{DIABETES} | apply app:diabetes_lin as p | score mean_absolute_error progression against p', "mean_absolute_error", rows=1),
        _of(f'{DIABETES} | apply app:diabetes_lin as p | score explained_variance_score progression against p', "explained_variance_score", rows=1),
        _of("| deletemodel app:diabetes_lin"),
    ),
    (
        _of(f"{DIABETES} | fit LinearRegression fit_intercept=f progression from bmi, bp, s5", _PROGRESSION, rows=442),
        _of(f"{DIABETES} | fit LinearRegression normalize=t progression from * as \"expected (points)\"", "expected (points)", rows=442),
        _of(f"{DIABETES} | fit Ridge progression from * into diabetes_ridge alpha=0.5 fit_intercept=true normalize=true", _PROGRESSION, rows=442),
        _of(f"{DIABETES} | fit Lasso progression from * alpha=0.1 into diabetes_lasso", _PROGRESSION, rows=442),
        _of(f"{DIABETES} | fit ElasticNet progression from * alpha=0.5 l1_ratio=0.7 into diabetes_en", _PROGRESSION, rows=442),
        _of("| summary diabetes_en", "feature", "coefficient"),
    ),
    (
        _of(f"{DIABETES} | fit DecisionTreeRegressor progression from * into diabetes_dt max_depth=4 splitter=random random_state=2", _PROGRESSION, rows=442),
        _of(f"{DIABETES} | apply diabetes_dt as \"expected\"", "expected", rows=442),
        _of(f"{DIABETES} | fit RandomForestRegressor progression from * into diabetes_rf n_estimators=20 max_features=sqrt", _PROGRESSION, rows=442),
        _of(f"{DIABETES} | fit GradientBoostingRegressor progression from * loss=huber n_estimators=20 learning_rate=0.1 min_weight_fraction_leaf=0.01", _PROGRESSION, rows=442),
        _of(f"{DIABETES} | fit StandardScaler bmi bp s* | fit SGDRegressor progression from SS_* into diabetes_sgd random_state=1 eta0=0.01 power_t=0.25 partial_fit=true", _PROGRESSION, rows=442),
    ),
    # Clusters.
    (
        _of(f"{IRIS} | fit KMeans sepal* petal* k=3 into app:iris_km random_state=1", "cluster", rows=150),
        _of(f"{IRIS} | apply app:iris_km as \"group\"", "group", rows=150),
        _of("| summary app:iris_km", "cluster"),
        _of(f"{IRIS_CM} | fit KMeans \"sepal length (cm)\" \"petal length (cm)\" k=4 as kind", "kind", rows=150),
    ),
    (
        _of(f"{IRIS} | fit Birch sepal* petal* k=3 into iris_birch partial_fit=true", "cluster", rows=150),
        _of(f"{IRIS} | apply iris_birch", "cluster", rows=150),
        _of(f"{IRIS} | fit DBSCAN eps=0.5 min_samples=4 petal_length petal_width", "cluster", rows=150),
        _of(f"{WINE} | fit StandardScaler * | fit PCA SS_* k=3 | fit KMeans PC_* k=3 into wine_groups", "SS_alcohol", "PC_1", "PC_2", "PC_3", "cluster", rows=178),
        _of(f"{WINE} | fit StandardScaler alcohol hue proline | fit DBSCAN SS_* eps=0.6 | stats count by cluster", "cluster", "count"),
    ),
    # Preparation of fields.
    (
        _of(f"{IRIS} | fit StandardScaler sepal* petal* with_mean=true with_std=true into app:iris_ss", "SS_sepal_length", "SS_petal_width", rows=150),
        _of(f"{IRIS} | apply app:iris_ss", "SS_sepal_width", "SS_petal_length", rows=150),
        _of(f"{IRIS} | fit StandardScaler sepal_length with_mean=f into iris_ss2 partial_fit=t", "SS_sepal_length", rows=150),
        _of(f"{IRIS} | fit RobustScaler sepal* quantile_low=10 quantile_high=90 into iris_rs", "RS_sepal_length", "RS_sepal_width", rows=150),
        _of("| summary app:iris_ss", "feature"),
    ),
    (
        _of(f"{DIABETES} | fit PCA s1 s2 s3 s4 k=2 into diabetes_pca", "PC_1", "PC_2", rows=442),
        _of(f"{DIABETES} | apply diabetes_pca", "PC_1", "PC_2", rows=442),
        _of(f"{DIABETES} | fit PCA s1 s2 s3 s4 variance=0.9", "PC_1", rows=442),
        _of(f"{DIABETES} | apply diabetes_pca | fit LinearRegression progression from PC_* into diabetes_pcr", _PROGRESSION, rows=442),
    ),
    # Outliers.
    (
        _of(f"{WINE} | fit OneClassSVM alcohol hue kernel=poly nu=0.1 coef0=0.5 gamma=0.5 tol=0.1 degree=3 shrinking=f into app:wine_oc", "isNormal", rows=178),
        _of(f"{WINE} | apply app:wine_oc", "isNormal", rows=178),
        _of(f"{WINE} | fit OneClassSVM * kernel=rbf nu=0.2 as ordinary", "ordinary", rows=178),
        _of(
            f"{IRIS} | fit LocalOutlierFactor petal_length petal_width n_neighbors=10 algorithm=kd_tree metric=minkowski p=1 contamination=0.14 leaf_size=10 anomaly_score=true",
            "is_outlier", "anomaly_score", rows=150,
        ),
    ),
    # Rows with gaps are left out of the training and come back all the same.
    (
        _of("| inputlookup iris_gaps.csv | fit RandomForestClassifier species from * into iris_gaps n_estimators=10", _SPECIES, rows=150),
        _of("| inputlookup iris_gaps.csv | apply iris_gaps", _SPECIES, rows=150),
    ),
)  # fmt: skip

SEARCHES: tuple[Search, ...] = tuple(search for group in GROUPS for search in group)
