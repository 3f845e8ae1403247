"""Change the verb and nothing else: the toolkit's searches parse, run, and give its columns."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.conftest import Standin
from e2e.toolkit_searches import GROUPS, SEARCHES, Search
from fakes.splunkd import Splunkd
from fakes.splunkd.spl import split_pipeline
from kepler_app.grammar import parse_predict, parse_score, parse_train
from support.running_service import RunningService

PARSERS = {"keplertrain": parse_train, "keplerpredict": parse_predict, "keplerscore": parse_score}
LEAST_THAT_RUN = 1.0
AT_ONCE = 2  # as many as the service trains at once


def fault(search: Search, splunkd: Splunkd) -> str:
    """What is wrong with the search's end, or nothing."""
    result = splunkd.search(search.swapped)
    if result.is_failed:
        return "; ".join(result.errors)
    if result.stderr:
        return f"stderr: {result.stderr[:200]}"
    missing = [name for name in search.adds if name not in result.fields]
    if missing:
        return f"no column {missing}; there are {result.fields}"
    if search.rows is not None and len(result.rows) != search.rows:
        return f"{len(result.rows)} rows instead of {search.rows}"
    added = [name for name in search.adds if not any(row[name] for row in result.rows)]
    return f"nothing in column {added}" if added else ""


def run(group: Sequence[Search], splunkd: Splunkd) -> list[tuple[str, str]]:
    return [(search.swapped, fault(search, splunkd)) for search in group]


def test_the_listing_is_wide_enough() -> None:
    assert len(SEARCHES) >= 60
    assert len({search.spl for search in SEARCHES}) == len(SEARCHES)
    words = " ".join(search.spl for search in SEARCHES)
    for verb in ("fit", "apply", "summary", "score"):
        assert words.count(f"| {verb} ") >= 5, verb


def test_every_search_parses() -> None:
    refused: list[str] = []
    for search in SEARCHES:
        for command in split_pipeline(search.swapped):
            parser = PARSERS.get(command.name)
            try:
                if parser is not None:
                    parser([word.raw for word in command.words])
            except Exception as error:
                refused.append(f"{search.swapped}: {error}")
    assert not refused, "\n".join(refused)


@pytest.mark.timeout(400)
def test_every_search_runs_with_the_toolkits_columns(splunkd: Splunkd) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = [item for part in pool.map(lambda group: run(group, splunkd), GROUPS) for item in part]
    wrong = [f"  {spl}\n    {text}" for spl, text in done if text]
    share = 1 - len(wrong) / len(done)
    print(f"{len(done)} searches, {share:.1%} run with the expected columns")
    print("\n".join(wrong))
    assert share >= LEAST_THAT_RUN, "\n".join(wrong)


def test_under_each_python_that_splunk_ships(
    service: RunningService, standin: Standin, splunk_python: str
) -> None:
    with standin(service.grpc, python=splunk_python) as splunkd:
        wrong = [item for item in run(GROUPS[0][:5], splunkd) if item[1]]
    assert not wrong


@pytest.mark.shared_data
def test_the_issues_own_searches_on_real_data(
    service: RunningService, standin: Standin, shared_dir: Path
) -> None:
    """What a plant's user would write, on real sets with text fields and gaps."""
    names = ("ai4i_failure.csv", "telco_churn.csv", "concrete_strength.csv")
    rows = {"ai4i_failure.csv": 10_000, "telco_churn.csv": 7_043, "concrete_strength.csv": 1_030}
    failure = "predicted(machine_failure)", "probability(machine_failure=0)", "probability(machine_failure=1)"
    searches = (
        Search("| inputlookup ai4i_failure.csv | fit LightGBMClassifier machine_failure from * into app:failure", failure[:1]),
        Search("| inputlookup ai4i_failure.csv | apply app:failure probabilities=true", failure),
        Search("| inputlookup telco_churn.csv | fit LogisticRegression Churn from * into app:churn", ("predicted(Churn)",)),
        Search("| inputlookup telco_churn.csv | apply app:churn as leaves", ("leaves",)),
        Search("| inputlookup concrete_strength.csv | fit StandardScaler * | fit RandomForestRegressor strength_mpa from SS_c* SS_age_days n_estimators=10", ("predicted(strength_mpa)", "SS_water")),
    )  # fmt: skip
    expected = [rows[next(name for name in names if name in search.spl)] for search in searches]
    with standin(service.grpc, lookups={name: shared_dir / "data" / name for name in names}) as splunkd:
        for search, count in zip(searches, expected, strict=True):
            assert not fault(replace(search, rows=count), splunkd), search.spl
