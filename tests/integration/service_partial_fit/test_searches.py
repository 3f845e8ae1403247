"""partial_fit=true through the app's own commands: one search a day, one model."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from sklearn.datasets import load_iris

from fakes.splunkd import Splunkd, has_python
from support.running_service import RunningService


def lookup(part: slice) -> str:
    data = load_iris()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["sepal_length", "sepal_width", "petal_length", "petal_width", "species"])
    names = [str(data.target_names[k]) for k in data.target]
    writer.writerows(
        [[*map(repr, row), name] for row, name in zip(data.data.tolist(), names, strict=True)][part]
    )
    return text.getvalue()


@pytest.fixture(scope="module")
def splunkd(
    service: RunningService, app_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Splunkd]:
    folder = tmp_path_factory.mktemp("lookups")
    (folder / "odd.csv").write_text(lookup(slice(1, None, 2)))
    (folder / "even.csv").write_text(lookup(slice(0, None, 2)))
    with Splunkd(
        apps=[app_dir],
        env={"KEPLER_ADDRESS": service.grpc},
        lookups=folder,
        python="3.9" if has_python("3.9") else None,
        listen=False,
    ) as found:
        yield found


def found(splunkd: Splunkd, search: str) -> list[dict[str, str]]:
    result = splunkd.search(search)
    assert not result.is_failed, result.errors
    return list(result.rows)


def test_the_second_search_goes_on_from_the_first(splunkd: Splunkd):
    fit = "keplertrain GaussianNB species from * into app:iris_daily partial_fit=true output=summary"
    found(splunkd, f"| inputlookup even.csv | {fit}")
    found(splunkd, f"| inputlookup odd.csv | {fit}")
    rows = found(splunkd, "| inputlookup odd.csv | keplerpredict app:iris_daily probabilities=true")

    from sklearn.naive_bayes import GaussianNB

    data = load_iris()
    native = GaussianNB()
    for part in (slice(0, None, 2), slice(1, None, 2)):
        native.partial_fit(data.data[part], data.target[part], classes=[0, 1, 2])
    wanted = native.predict_proba(data.data[1::2])
    assert len(rows) == len(wanted)
    for row, chances in zip(rows, wanted, strict=True):
        for name, chance in zip(data.target_names, chances, strict=True):
            assert float(row[f"probability(species={name})"]) == pytest.approx(chance, abs=1e-6)


def test_another_parameter_fails_the_search_with_what_to_do(splunkd: Splunkd):
    fit = "keplertrain SGDClassifier species from * into app:iris_steps partial_fit=true output=summary"
    found(splunkd, f"| inputlookup even.csv | {fit} loss=log_loss")
    result = splunkd.search(f"| inputlookup odd.csv | {fit} loss=hinge")
    assert result.is_failed
    message = " ".join(result.errors)
    assert "was trained with loss=log_loss" in message
    assert "Leave out loss, or name another model to begin anew" in message
