"""Two trainings and ten predictions at once say the same as one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes.splunkd import SearchResult, Splunkd

pytestmark = pytest.mark.timeout(240)
LOOKUPS = ("iris", "wine", "cancer")
MODELS = {
    "iris": "RandomForestClassifier species from * into app:side_iris n_estimators=10",
    "wine": "LogisticRegression cultivar from * into app:side_wine",
    "cancer": "LightGBMClassifier diagnosis from * into app:side_cancer n_estimators=10",
}


def _train(part: str, into: str) -> str:
    return f"| inputlookup {part}.csv | keplertrain {MODELS[part]} ".replace("app:side", f"app:{into}")


def _predict(part: str) -> str:
    # @1: a training that ends in between makes version 2 the newest one.
    return f"| inputlookup {part}.csv | keplerpredict app:side_{part}@1 probabilities=true"


def _run(splunkd: Splunkd, searches: Sequence[str], at_once: int) -> list[list[dict[str, str]]]:
    def one(spl: str) -> SearchResult:
        return splunkd.search(spl)

    if at_once == 1:
        results = [one(spl) for spl in searches]
    else:
        with ThreadPoolExecutor(at_once) as pool:
            results = list(pool.map(one, searches))
    for spl, result in zip(searches, results, strict=True):
        assert not result.is_failed, (spl, result.errors)
        assert not result.stderr
    return [result.rows for result in results]


@pytest.fixture(scope="module")
def trained(splunkd: Splunkd) -> Callable[[str], list[dict[str, str]]]:
    """Models to ask, made one after the other, and the rows their trainings gave."""
    rows = dict(zip(LOOKUPS, _run(splunkd, [_train(part, "side") for part in LOOKUPS], 1), strict=True))
    return rows.__getitem__


def test_side_by_side_as_one_at_a_time(
    splunkd: Splunkd, trained: Callable[[str], list[dict[str, str]]]
) -> None:
    asked = [_predict(LOOKUPS[i % len(LOOKUPS)]) for i in range(10)]
    alone = _run(splunkd, asked[:3], 1)
    # The trainings make new versions of the very models that are being asked.
    both = [_train("iris", "side"), _train("cancer", "side"), *asked]
    together = _run(splunkd, both, len(both))
    assert together[0] == trained("iris")
    assert together[1] == trained("cancer")
    for i, rows in enumerate(together[2:]):
        assert rows == alone[i % len(LOOKUPS)], asked[i]


def test_trainings_into_one_model_make_a_version_each(splunkd: Splunkd) -> None:
    searches = [_train("iris", "race") for _ in range(2)]
    first, second = _run(splunkd, searches, 2)
    assert first == second
    versions = splunkd.search("| keplerversion list app:race_iris").rows
    assert sorted(row["version"] for row in versions) == ["1", "2"]
