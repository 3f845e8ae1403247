"""Change the verb and nothing else: the toolkit's searches parse, run, and give its columns."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from e2e.toolkit_searches import GROUPS, SEARCHES, Search
from fakes.splunkd import Splunkd
from fakes.splunkd.spl import split_pipeline
from kepler_app.grammar import parse_predict, parse_score, parse_train

PARSERS = {"keplertrain": parse_train, "keplerpredict": parse_predict, "keplerscore": parse_score}
LEAST_THAT_RUN = 0.95
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
def test_nearly_every_search_runs_with_the_toolkits_columns(splunkd: Splunkd) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = [item for part in pool.map(lambda group: run(group, splunkd), GROUPS) for item in part]
    wrong = [f"  {spl}\n    {text}" for spl, text in done if text]
    syntax = [line for line in wrong if "Unrecognized" in line or "Write kepler" in line]
    share = 1 - len(wrong) / len(done)
    print(f"{len(done)} searches, {share:.1%} run with the expected columns")
    print("\n".join(wrong))
    assert not syntax
    assert share >= LEAST_THAT_RUN, "\n".join(wrong)
