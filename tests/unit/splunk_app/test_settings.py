"""Where the service is, and what is remembered about models."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kepler_app import logs, paths, settings, signatures
from kepler_app.searchinfo import SearchInfo
from kepler_app.settings import Settings, read_ca, split_address
from kepler_app.signatures import Signature
from unit.splunk_app.plain import refused

PEM = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("KEPLER_") or name == "SPLUNK_HOME"]:
        monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "var/log/splunk").mkdir(parents=True)
    monkeypatch.setenv("SPLUNK_HOME", str(tmp_path))
    return tmp_path


def search(user: str = "ana", app: str = "search") -> SearchInfo:
    return SearchInfo({"searchinfo": {"username": user, "app": app}})


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("kepler.example.com:9000", "kepler.example.com", 9000),
        (" localhost ", "localhost", 8790),
        ("[::1]:9000", "::1", 9000),
        ("[::1]", "::1", 8790),
        ("::1", "::1", 8790),
        ("10.0.0.5:1", "10.0.0.5", 1),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert split_address(text) == (host, port)


@pytest.mark.parametrize("text", ["", ":8790", "https://x:1", "x:0", "x:70000", "x:y"])
def test_wrong_addresses_are_refused(text: str) -> None:
    with refused("not host:port", "configuration page"):
        split_address(text)


@pytest.mark.parametrize(
    ("address", "ca", "tls"),
    [
        ("127.0.0.1:1", "", False),
        ("localhost", "", False),
        ("[::1]:1", "", False),
        ("127.0.0.1:1", PEM, True),
        ("10.0.0.5:1", "", True),
        ("kepler.example.com", "", True),
        ("127.0.0.1.example.com", "", True),
    ],
)
def test_plaintext_goes_to_this_machine_only(address: str, ca: str, tls: bool) -> None:
    assert Settings(address, "", ca).tls is tls


def test_addresses_are_shown_as_they_are_written() -> None:
    assert Settings("::1").address == "[::1]:8790"
    assert Settings("a:1").address == "a:1"


def test_the_environment_overrides_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.from_environment() is None
    ca = tmp_path / "ca.pem"
    ca.write_text(PEM)
    monkeypatch.setenv("KEPLER_ADDRESS", "kepler:1")
    monkeypatch.setenv("KEPLER_TOKEN", " t ")
    monkeypatch.setenv("KEPLER_CA_FILE", str(ca))
    found = settings.load(search())
    assert (found.address, found.token, found.ca_pem, found.source) == ("kepler:1", "t", PEM, "environment")


def test_without_environment_and_session_nothing_is_known() -> None:
    with refused("KEPLER_ADDRESS is not set"):
        settings.load(search())


def test_certificates_are_text_or_files(tmp_path: Path) -> None:
    assert read_ca("") == ""
    assert read_ca(f"  {PEM.strip()}  ") == PEM
    with refused("cannot be read", "No such file"):
        read_ca(str(tmp_path / "none.pem"))
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("hello")
    with refused("holds no certificate"):
        read_ca(str(wrong))
    wrong.write_bytes(b"\xff\xfe")
    with refused("not PEM text"):
        read_ca(str(wrong))


def test_private_keys_never_become_part_of_an_authority(tmp_path: Path) -> None:
    """Splunk's own server.pem holds certificate, key and chain; users are handed what is read here."""
    key = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nsecret\n-----END ENCRYPTED PRIVATE KEY-----\n"
    whole = f"Bag attributes\n{PEM}{key}subject=x\r\n{PEM}"
    path = tmp_path / "server.pem"
    path.write_text(whole)
    for given in (whole, str(path)):
        assert read_ca(given) == PEM + PEM
    with refused("not valid PEM text"):
        read_ca(key)
    with refused("not valid PEM text"):
        read_ca(PEM.replace("END", "MIDDLE"))
    path.write_text(key)
    with refused("holds no certificate"):
        read_ca(str(path))


def test_client_certificates_are_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPLER_ADDRESS", "kepler:1")
    monkeypatch.setenv("KEPLER_CLIENT_CERT_FILE", " /c.pem ")
    monkeypatch.setenv("KEPLER_CLIENT_KEY_FILE", "/k.pem")
    found = settings.load(search())
    assert (found.cert_file, found.key_file) == ("/c.pem", "/k.pem")


def test_transfer_comes_from_environment_then_local_then_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "app_folder", lambda: str(tmp_path))
    assert settings.transfer() == "auto"
    for layer, value in (("default", "full"), ("local", "auto")):
        (tmp_path / layer).mkdir()
        text = f"# c\n[other]\ntransfer = no\n[service]\naddress = x\ntransfer = {value}\n"
        (tmp_path / layer / "kepler_settings.conf").write_text(text)
        assert settings.transfer() == value
    monkeypatch.setenv("KEPLER_TRANSFER", "FULL")
    assert settings.transfer() == "full"


def test_app_folder_holds_bin() -> None:
    assert (Path(paths.app_folder()) / "bin" / "kepler_app").is_dir()


def test_signatures_are_remembered_per_meaning(home: Path) -> None:
    found = Signature("s1", ["a", "b"], "app.search/m@1")
    signatures.write(search(), "m", found)
    again = signatures.read(search(), "m")
    assert again is not None
    assert (again.signature, again.required_fields, again.model) == ("s1", ["a", "b"], "app.search/m@1")
    assert signatures.read(search("bob"), "m") is None, "a bare name may be private"
    assert signatures.read(search(app="other"), "m") is None
    signatures.write(search(), "app:m@prod", found)
    assert signatures.read(search("bob"), "app:m@prod") is not None, "an app's model is everybody's"
    assert signatures.read(search("bob", "other"), "app:m@prod") is None
    signatures.write(search(), "app.search/m", found)
    assert signatures.read(search("bob", "other"), "app.search/m") is not None
    signatures.write(search(), "user.ana/m", found)
    assert signatures.read(search("bob"), "user.ana/m") is None
    signatures.forget(search(), "m")
    assert signatures.read(search(), "m") is None
    signatures.forget(search(), "m")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"key": "other", "signature": "s", "required_fields": ["a"]}',
        '{"key": KEY, "signature": "", "required_fields": ["a"]}',
        '{"key": KEY, "signature": 5, "required_fields": ["a"]}',
        '{"key": KEY, "signature": "s", "required_fields": []}',
        '{"key": KEY, "signature": "s", "required_fields": "a"}',
        '{"key": KEY, "signature": "s", "required_fields": [""]}',
        '{"key": KEY, "signature": "s", "required_fields": [1]}',
    ],
)
def test_broken_signature_files_are_ignored(home: Path, text: str) -> None:
    signatures.write(search(), "m", Signature("s", ["a"]))
    [path] = (home / "var/run/kepler").iterdir()
    path.write_text(text.replace("KEY", json.dumps(json.dumps(["ana", "search", "m"]))))
    assert signatures.read(search(), "m") is None


def test_signature_files_are_bounded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "_MAX_FILES", 4)
    for number in range(9):
        signatures.write(search(), f"m{number}", Signature("s", ["a"]))
    assert 2 <= len(list((home / "var/run/kepler").iterdir())) <= 4


def test_without_a_place_nothing_is_remembered_and_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signatures.write(search(), "m", Signature("s", ["a"]))
    assert signatures.read(search(), "m") is None
    signatures.forget(search(), "m")
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("SPLUNK_HOME", str(blocked))
    signatures.write(search(), "m", Signature("s", ["a"]))
    assert signatures.read(search(), "m") is None


def test_log_lines_are_pairs(home: Path) -> None:
    logs.write("INFO", "predict.done", rows=5, model="app.search/m@1", seconds=0.12345, empty="", none=None)
    logs.write("ERROR", "x", text='a "b"\nc\\d')
    first, second = (home / "var/log/splunk/kepler.log").read_text().splitlines()
    assert first.endswith('level=INFO event=predict.done rows=5 model="app.search/m@1" seconds=0.123')
    assert second.endswith("level=ERROR event=x text=\"a 'b'\\nc\\\\d\"")


def test_log_respects_level_size_and_absence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "var/log/splunk/kepler.log"
    logs.write("DEBUG", "quiet")
    assert not path.exists()
    monkeypatch.setattr(paths, "conf_value", lambda *_: "ERROR")
    logs.write("INFO", "quiet")
    assert not path.exists()
    logs.write("ERROR", "first")
    monkeypatch.setattr(logs, "_MAX_BYTES", 1)
    logs.write("ERROR", "second")
    assert "second" in path.read_text()
    assert "first" in Path(f"{path}.1").read_text()
    path.unlink()
    path.mkdir()
    logs.write("ERROR", "nowhere")
    monkeypatch.delenv("SPLUNK_HOME")
    logs.write("ERROR", "nowhere")


def test_crashes_are_logged_with_their_stack(home: Path) -> None:
    try:
        raise ValueError("inside")
    except ValueError as error:
        crash_id = logs.crash("keplertrain", "1.2", error)
    text = (home / "var/log/splunk/kepler.log").read_text()
    assert crash_id in text
    assert "ValueError: inside" in text
    assert text.count("\n") == 1
