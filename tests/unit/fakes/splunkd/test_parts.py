"""Confs, accounts, times, secrets, interpreters and the command line."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from fakes.splunkd import InterpreterMissing, Splunkd, find_python, has_python
from fakes.splunkd.__main__ import main
from fakes.splunkd.apps import app_name
from fakes.splunkd.confs import layer, parse_conf
from fakes.splunkd.errors import SearchFailed
from fakes.splunkd.events import EventStore, parse_time
from fakes.splunkd.secrets_store import END_MARK, SecretStore

APP = Path(__file__).parents[3] / "data" / "standin_app"


def test_confs_are_parsed_and_layered() -> None:
    text = "top = 1\n# no\n[a]\nx = 1\nlong = one \\\ntwo\nodd\n[b:c]\n y=a=b\n[empty]\n"
    conf = parse_conf(text)
    assert conf == {
        "default": {"top": "1"},
        "a": {"x": "1", "long": "one \ntwo"},
        "b:c": {"y": "a=b"},
        "empty": {},
    }
    assert layer(conf, {"a": {"x": "2"}, "n": {}})["a"] == {"x": "2", "long": "one \ntwo"}


def test_local_wins_over_default(tmp_path: Path) -> None:
    for folder, text in (("default", "[c]\nfilename=a.py\nchunked=true"), ("local", "[c]\nfilename=b.py")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "commands.conf").write_text(text)
    (tmp_path / "bin").mkdir()
    with Splunkd({"some": tmp_path}, listen=False) as splunkd:
        found = splunkd.apps.command("c")
        assert found is not None
        assert (found.script.name, found.is_risky, found.run_in_preview) == ("b.py", False, False)
        risky = splunkd.install_app("other", APP).conf("commands")["standingenerate"]
        assert risky["is_risky"] == "true"


def test_the_platforms_bin_comes_first(tmp_path: Path) -> None:
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / "commands.conf").write_text("[c]\nfilename=a.py\nchunked=true")
    for folder in ("bin", "linux_x86_64/bin"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.py").write_text("")
    with Splunkd([tmp_path], listen=False) as splunkd:
        found = splunkd.apps.command("c")
        assert found is not None
        assert "linux_x86_64" in str(found.script)


def test_an_apps_name(tmp_path: Path) -> None:
    assert app_name(APP) == "standin_app"
    assert app_name(tmp_path) == tmp_path.name
    (tmp_path / "app.manifest").write_text(json.dumps({"info": {"id": {"name": "from_manifest"}}}))
    assert app_name(tmp_path) == "from_manifest"


def test_a_missing_app_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no app folder"):
        Splunkd([tmp_path / "nothing"], listen=False)


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        (None, 0.0),
        ("", 0.0),
        (5, 5.0),
        ("1700000000.5", 1_700_000_000.5),
        ("now", 1_700_000_123.0),
        ("-1h", 1_699_996_523.0),
        ("-h", 1_699_996_523.0),
        ("-2d@d", 1_699_747_200.0),
        ("@m", 1_700_000_100.0),
        ("+1week", 1_700_604_923.0),
    ],
)
def test_time_modifiers(written: str | float | None, moment: float) -> None:
    assert parse_time(written, 1_700_000_123.0) == moment


def test_written_times_are_local() -> None:
    one, other = parse_time("2021-07-27T05:48:20", 0.0), parse_time("07/27/2021:05:48:20", 0.0)
    assert one == other > 1_600_000_000
    with pytest.raises(SearchFailed, match="Invalid time modifier"):
        parse_time("yesterday", 0.0)


def test_fields_are_extracted_from_json_and_pairs() -> None:
    store = EventStore()
    store.add({"a": {"b": 1, "c": [1, "x"]}, "t": True, "n": None}, time_s=2.0)
    store.add('level=warn msg="two words" x', time_s=1.0)
    store.add("{broken", time_s=0.5, fields={"k": 1})
    store.add_many([{"_time": 3, "v": 1}, {"v": 2}])
    rows = [e.row() for e in store.between(0, 10)]
    assert [r["_time"] for r in rows] == ["3.000", "2.000", "1.000", "0.500"]
    assert {k: rows[1][k] for k in ("a.b", "a.c{}", "t", "n")} == {
        "a.b": "1",
        "a.c{}": "1\nx",
        "t": "true",
        "n": "",
    }
    assert (rows[2]["level"], rows[2]["msg"]) == ("warn", "two words")
    assert rows[3]["k"] == "1"


def test_roles_import_and_grant(tmp_path: Path) -> None:
    with Splunkd([APP], listen=False) as splunkd:
        splunkd.add_role("mine", ["special"], ["standin_trusted"])
        splunkd.add_user("eve", "pw", ["mine"], ["extra"])
        accounts = splunkd.accounts
        assert accounts.effective_roles("eve") == ["mine", "standin_trusted", "user"]
        assert {"special", "extra", "standin_use", "search"} <= accounts.capabilities("eve")
        assert not accounts.may("eve", "list_storage_passwords")
        assert accounts.may("admin", "list_storage_passwords")
        assert accounts.login("eve", "no") is None
        key = accounts.login("eve", "pw")
        assert key is not None
        assert accounts.user_of(key) == "eve"
        accounts.end_session(key)
        assert accounts.user_of(key) is None
        with pytest.raises(RuntimeError, match="does not listen"):
            splunkd.sdk_kwargs()


def test_long_secrets_are_cut_and_ended() -> None:
    store = SecretStore()
    store.set_ucc("app", "conf", "service", {"token": "x" * 600})
    pieces = store.all("app")
    assert [len(p.clear) for p in pieces[:-1]] == [255, 255, 103]
    assert pieces[-1].clear == END_MARK
    store.set_ucc("app", "conf", "service", {"token": "y"})
    assert store.get_ucc("app", "conf", "service") == {"token": "y"}
    assert len(store.all("app")) == 2
    assert store.get_ucc("app", "conf", "none") == {}
    assert store.set("a", "r:e", "u", "c").name == "r\\:e:u:"


def test_interpreters_are_found_or_named() -> None:
    assert find_python(None) == find_python("{}.{}".format(*__import__("sys").version_info))
    assert find_python("/some/tool") == "/some/tool"
    assert not has_python("2.9")
    with pytest.raises(InterpreterMissing, match=r"CPython 2\.9 was not found"):
        find_python("2.9")


def test_the_command_line_runs_searches(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Splunkd, "start", lambda self: self)
    asked = ["--app", str(APP), "--env", "A=b=c", "--search", "| inputlookup shipped.csv"]
    assert main(asked) == 0
    assert capsys.readouterr().out == "a  b\n1  x\n"
    assert main([*asked, "--json", "--search", "| nope"]) == 1
    out = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert out[0]["rows"] == [{"a": "1", "b": "x"}]
    assert out[1]["state"] == "FAILED"
    assert main([*asked[:2], "--search", "| nope"]) == 1
    assert capsys.readouterr().out == "FATAL: Unknown search command 'nope'.\n"


def test_the_command_line_serves_until_it_is_stopped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Splunkd, "start", lambda self: self)
    monkeypatch.setattr("fakes.splunkd.__main__.signal.signal", lambda *_: None)
    stop = threading.Event()
    stop.set()
    assert main(["--http"], stop) == 0
    assert capsys.readouterr().out.startswith("splunkd stand-in ready ")
