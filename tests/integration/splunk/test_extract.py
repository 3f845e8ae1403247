"""Searches are fetched through the real splunk-sdk from the splunkd stand-in."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kepler as kp

pytest.importorskip("splunklib")

from fakes.splunkd import Splunkd
from kepler.adapters.cli.main import main
from kepler.adapters.splunk.connection import SplunkAccess, connect
from kepler.adapters.splunk.extract import extract
from kepler.core.errors import InvalidInput, Unauthenticated, Unavailable

ROWS = [(n, f"text {n}", "line\nbreak" if n % 2 else 'a "quote", and comma') for n in range(250)]


@pytest.fixture(scope="module")
def splunkd() -> Iterator[Splunkd]:
    lines = ["n,name,note"]
    for n, name, note in ROWS:
        lines.append(f'{n},{name},"' + note.replace('"', '""') + '"')
    with Splunkd(lookups={"rows.csv": "\n".join(lines) + "\n", "none.csv": "a,b\n"}) as running:
        yield running


@pytest.fixture
def environment(splunkd: Splunkd, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("HOST", "127.0.0.1"),
        ("PORT", str(splunkd.port)),
        ("SCHEME", "http"),
        ("USERNAME", "admin"),
    ):
        monkeypatch.setenv(f"KEPLER_SPLUNK_{name}", value)
    monkeypatch.setenv("KEPLER_SPLUNK_PASSWORD", splunkd.admin_password)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


EXPECTED = [{"n": str(n), "name": name, "note": note} for n, name, note in ROWS]


@pytest.mark.parametrize("page_rows", [40, 250, 50_000])
def test_every_row_comes_page_by_page(environment: None, tmp_path: Path, page_rows: int) -> None:
    told: list[tuple[float, int]] = []
    service = connect(SplunkAccess.resolve())
    done = extract(
        service,
        "| inputlookup rows.csv",
        tmp_path / "out.csv",
        page_rows=page_rows,
        on_progress=lambda share, rows: told.append((share, rows)),
    )
    assert read(tmp_path / "out.csv") == EXPECTED
    assert (done.rows, done.columns) == (250, ("n", "name", "note"))
    assert told[-1] == (1.0, 250)
    assert [item.name for item in tmp_path.iterdir()] == ["out.csv"]


def test_the_export_stream_gives_the_same(environment: None, tmp_path: Path) -> None:
    service = connect(SplunkAccess.resolve())
    extract(service, "| inputlookup rows.csv", tmp_path / "out.csv", export=True, page_rows=100)
    assert read(tmp_path / "out.csv") == EXPECTED


def test_from_splunk_is_data_like_any_other(environment: None) -> None:
    source = kp.data.from_splunk("| inputlookup rows.csv | head 3")
    assert source.columns == ("n", "name", "note")
    assert b"".join(source.slices()).count(b"text") == 3
    path = source.path
    del source
    assert not path.exists()


def test_from_splunk_with_a_session_of_ones_own(splunkd: Splunkd) -> None:
    from splunklib import client

    session = client.connect(**splunkd.sdk_kwargs())
    source = kp.data.from_splunk("| inputlookup rows.csv | fields n", session=session)
    assert source.columns == ("n",)


@pytest.fixture
def kepler(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(item) for item in arguments])
        said = capfd.readouterr()
        return code, said.out, said.err

    return run


def test_the_command(environment: None, kepler: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    code, said, err = kepler("extract", "| inputlookup rows.csv", "--output", out, "--page-rows", 100)
    assert (code, said) == (0, "")
    assert f"250 rows with 3 columns written to {out}" in err
    code, said, _ = kepler("extract", "| inputlookup rows.csv | head 2", "-o", out, "--json")
    assert (code, json.loads(said)["rows"], len(read(out))) == (0, 2, 2)


def test_the_command_on_a_terminal_shows_a_bar_and_reads_metrics(
    environment: None,
    kepler: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    out = tmp_path / "out.csv"
    assert kepler("extract", "| inputlookup rows.csv", "--metrics", "-o", out)[0] == 0
    assert kepler("extract", "| inputlookup rows.csv", "-o", out, "--quiet") == (0, "", "")
    code, _, err = kepler("extract", "| inputlookup rows.csv", "-o", tmp_path / "no" / "out.csv")
    assert (code, "There is no folder" in err) == (2, True)


def test_a_token_from_stdin(
    splunkd: Splunkd,
    kepler: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import io
    import sys

    where = ("--host", "127.0.0.1", "--port", splunkd.port, "--scheme", "http")
    search = ("extract", "| inputlookup rows.csv", "-o", tmp_path / "out.csv", *where)
    monkeypatch.setattr(sys, "stdin", io.StringIO(splunkd.add_token("admin") + "\n"))
    assert kepler(*search, "--stdin")[0] == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO(splunkd.admin_password))
    assert kepler(*search, "--stdin", "--username", "admin")[0] == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("wrong"))
    assert kepler(*search, "--stdin")[0] == 4
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert kepler(*search, "--stdin")[0] == 2
    assert kepler(*search, "--stdin", "--secret", "x")[0] == 2


def test_a_token_from_the_secret_store(
    splunkd: Splunkd,
    kepler: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import io
    import sys

    home = tmp_path / "home"
    monkeypatch.setenv("KEPLER_SECRETS__KEY", "file")
    monkeypatch.setattr(sys, "stdin", io.StringIO(splunkd.add_token("admin")))
    assert kepler("secret", "set", "splunk", "--home", home)[0] == 0
    where = ("--host", "127.0.0.1", "--port", splunkd.port, "--scheme", "http", "--home", home)
    search = ("extract", "| inputlookup rows.csv", "-o", tmp_path / "out.csv", *where)
    assert kepler(*search, "--secret", "splunk")[0] == 0
    assert kepler(*search, "--secret", "other")[0] == 3


@pytest.mark.parametrize(
    ("search", "kind"),
    [("| inputlookup nothere.csv", InvalidInput), ("| nosuchcommand", InvalidInput), ("", InvalidInput)],
)
@pytest.mark.parametrize("export", [False, True])
def test_a_search_that_splunk_refuses(
    environment: None, tmp_path: Path, search: str, kind: type[Exception], export: bool
) -> None:
    with pytest.raises(kind) as caught:
        extract(connect(SplunkAccess.resolve()), search, tmp_path / "out.csv", export=export)
    assert "Traceback" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_finds_nothing_is_said(environment: None, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="found nothing"):
        extract(connect(SplunkAccess.resolve()), "| inputlookup none.csv", tmp_path / "out.csv")


def test_logins_that_fail(splunkd: Splunkd) -> None:
    at = {"host": "127.0.0.1", "port": splunkd.port, "scheme": "http"}
    with pytest.raises(Unauthenticated, match="refused the login"):
        connect(SplunkAccess.resolve(**at, username="admin", password="wrong"))
    with pytest.raises(Unauthenticated, match="refused the login"):
        connect(SplunkAccess.resolve(**at, token="wrong"))
    with pytest.raises(Unavailable, match="does not answer"):
        connect(SplunkAccess.resolve(host="127.0.0.1", port=1, token="x"))


def test_certificates_are_checked(tmp_path: Path) -> None:
    with Splunkd(tls=True, lookups={"x.csv": "a\n1\n"}) as secure:
        at = {
            "host": "127.0.0.1",
            "port": secure.port,
            "username": "admin",
            "password": secure.admin_password,
        }
        with pytest.raises(Unavailable, match="not trusted"):
            connect(SplunkAccess.resolve(**at))
        connect(SplunkAccess.resolve(**at, verify=False))
        service = connect(SplunkAccess.resolve(**at, ca_file=str(secure.ca_file)))
        assert extract(service, "| inputlookup x.csv", tmp_path / "out.csv").rows == 1
    with pytest.raises(InvalidInput, match="no certificate authorities"):
        connect(SplunkAccess.resolve(**at, ca_file=str(tmp_path / "none.pem")))
