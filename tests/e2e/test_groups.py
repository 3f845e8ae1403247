"""by, through the app's real commands: one search trains a model per group, one search asks all of them."""

from __future__ import annotations

import pytest

from fakes.splunkd import Splunkd

IRIS = "| inputlookup iris.csv"
FIT = "keplertrain LinearRegression petal_length from sepal_length sepal_width"


@pytest.mark.parametrize(("by", "name"), [("by species", "a"), ('by "species"', "b"), ('by="species"', "c")])
def test_one_search_trains_and_one_asks_every_group(splunkd: Splunkd, by: str, name: str) -> None:
    name = f"app:iris_groups_{name}"
    trained = splunkd.search(f"{IRIS} | {FIT} {by} into {name}")
    assert not trained.is_failed, trained.errors
    column = "predicted(petal_length)"
    assert len(trained.rows) == 150
    assert all(row[column] for row in trained.rows)
    for _ in range(2):  # the second time with only the fields that the model reads
        again = splunkd.search(f"{IRIS} | keplerpredict {name}")
        assert [float(row[column]) for row in again.rows] == pytest.approx(
            [float(row[column]) for row in trained.rows], rel=1e-12
        )
    groups = splunkd.search(f"| keplersummary {name} view=groups").rows
    assert [(row["species"], row["rows"], row["state"]) for row in groups] == [
        (species, "50", "trained") for species in ("setosa", "versicolor", "virginica")
    ]


def test_groups_that_fail_and_groups_that_are_new_are_said(splunkd: Splunkd) -> None:
    few = splunkd.search(
        f"{IRIS} | search species=setosa | {FIT} by species into app:iris_few output=summary"
    )
    assert (few.rows[0]["groups"], few.rows[0]["groups_failed"]) == ("1.0", "0.0")
    asked = splunkd.search(f"{IRIS} | keplerpredict app:iris_few")
    given = {row["species"] for row in asked.rows if row["predicted(petal_length)"]}
    assert given == {"setosa"}, (asked.errors, asked.warnings, asked.rows[:2])
    assert any("100 of 150 rows are of groups that training has not seen" in text for text in asked.warnings)
    failed = splunkd.search(f"{IRIS} | keplertrain LogisticRegression species from petal* by species")
    assert any("chooses the group" in text for text in failed.errors)
