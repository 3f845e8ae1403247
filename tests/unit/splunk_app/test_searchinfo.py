"""What getinfo says about a search."""

from __future__ import annotations

from kepler_app.searchinfo import SearchInfo
from unit.splunk_app.plain import refused


def info(**searchinfo: object) -> SearchInfo:
    return SearchInfo({"searchinfo": searchinfo})


def test_text_and_times_of_each_splunk_version() -> None:
    old = info(search="%7C%20inputlookup%20x", earliest_time="0", latest_time="1627419600", owner="admin")
    assert (old.search, old.earliest, old.latest, old.user) == ("| inputlookup x", 0, 1627419600, "admin")
    new = info(
        search="| table _time", earliest_time=1599084000.0, latest_time=1599172248.0, username="ana", app="x"
    )
    assert (new.search, new.earliest, new.user, new.app) == ("| table _time", 1599084000.0, "ana", "x")


def test_nothing_is_required() -> None:
    empty = SearchInfo({})
    assert (empty.app, empty.user, empty.raw_args, empty.preview, empty.search) == (
        "search",
        "",
        [],
        False,
        "",
    )
    odd = SearchInfo({"searchinfo": [], "preview": True})
    assert odd.preview
    assert info(sid=5, earliest_time="soon", latest_time=-1).earliest == 0


def test_args_stand_in_for_raw_args() -> None:
    assert info(args=["a"], raw_args=[]).raw_args == ["a"]
    assert info(args=["a"], raw_args=['"a"']).raw_args == ['"a"']


def test_realtime_searches_are_refused() -> None:
    for found in (info(sid="rt_1"), info(earliest_time="rt-5m"), info(latest_time="rt")):
        with refused("keplertrain", "real-time"):
            found.refuse_realtime("keplertrain")
    info(sid="1.rt_x", earliest_time="0").refuse_realtime("keplertrain")
