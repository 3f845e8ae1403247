"""The administrator's commands, on a home of their own."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from kepler.adapters.cli import home_tools
from kepler.adapters.cli.home_tools import at, duration_s
from kepler.core.errors import Conflict, Denied, InvalidInput, KeplerError, NotFound


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("KEPLER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KEPLER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(group: str, *arguments: str, stdin: str | None = None) -> Result:
    app = importlib.import_module(f"kepler.adapters.cli.{group}").app
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    if isinstance(result.exception, KeplerError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def run_json(group: str, *arguments: str, stdin: str | None = None) -> Any:
    return json.loads(run(group, *arguments, "--json", stdin=stdin).stdout)


def audited(home: Path) -> list[tuple[str, str]]:
    text = (home / "audit" / "audit.jsonl").read_text()
    return [(record["action"], record["what"]) for record in map(json.loads, text.splitlines())]


def test_a_token_is_made_shown_once_listed_and_revoked(home: Path) -> None:
    made = run("token", "create", "sh1", "--can", "train, predict,issue", "--user", "splunk")
    token = made.stdout.strip()
    assert token.startswith("kp_")
    assert "\n" not in token
    assert "not shown again" in made.stderr
    token_id = token.split("_")[1]
    (listed,) = run_json("token", "list")
    assert (listed["id"], listed["user"], listed["capabilities"]) == (
        token_id,
        "splunk",
        ["issue", "predict", "train"],
    )
    assert listed["expires_at"] - listed["created_at"] == 90 * 86_400
    table = run("token", "list").stdout
    assert token not in table
    assert "issue,predict,train" in table
    assert run_json("token", "revoke", token_id)["revoked"] is True
    assert "revoked" in run("token", "list").stdout
    assert "is revoked" in run("token", "revoke", token_id).stdout
    assert audited(home) == [
        ("token.create", token_id),
        ("token.revoke", token_id),
        ("token.revoke", token_id),
    ]
    assert token.split("_", 2)[2] not in (home / "audit" / "audit.jsonl").read_text()


def test_a_token_for_scripts_and_for_ever() -> None:
    made = run_json("token", "create", "x", "--can", "predict", "--ttl", "never")
    assert made["expires_at"] == 0
    assert made["user"] == "x"
    assert made["token"].startswith(f"kp_{made['id']}_")
    assert "never expires" in run("token", "create", "y", "--can", "admin", "--ttl", "never").stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "x", "--can", "trian"), "Did you mean train"),
        (("create", "x", "--can", ","), "needs a capability"),
        (("create", "x", "--can", "train", "--ttl", "soon"), "no lifetime"),
        (("revoke", "abc"), "no token"),
    ],
)
def test_mistakes_with_tokens_are_said(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises((InvalidInput, NotFound), match=said):
        run("token", *arguments)


def test_secrets_come_by_standard_input_and_never_out(home: Path) -> None:
    said = run("secret", "set", "hec", stdin="canary value\n").output
    assert run_json("secret", "set", "other", stdin="x") == {"name": "other", "done": "stored"}
    assert run("secret", "list").stdout.split() == ["hec", "other"]
    assert run_json("secret", "list") == ["hec", "other"]
    with home_tools.opened(None, None) as security:
        assert security.secrets.get("hec") == "canary value"
    key_id = run_json("secret", "rotate")["key_id"]
    assert key_id not in run("secret", "rotate").stdout
    said += run("secret", "delete", "hec").output
    assert "canary" not in said
    assert run_json("secret", "list") == ["other"]
    actions = [action for action, _ in audited(home)]
    assert actions == ["secret.set", "secret.set", "secret.rotate", "secret.rotate", "secret.delete"]
    assert "canary" not in (home / "audit" / "audit.jsonl").read_text()


def test_mistakes_with_secrets_are_said() -> None:
    with pytest.raises(InvalidInput, match="held no value"):
        run("secret", "set", "hec", stdin="\n")
    with pytest.raises(NotFound, match="no secret 'hec'"):
        run("secret", "delete", "hec")
    for arguments in (("set", "kepler.audit-key"), ("delete", "kepler.audit-key")):
        with pytest.raises(Denied, match="belongs to the service"):
            run("secret", *arguments, stdin="x")


def test_a_value_is_asked_for_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from kepler.adapters.cli import secret

    monkeypatch.setattr(secret.sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr(secret.typer, "prompt", lambda text, hide_input: "typed" if hide_input else "shown")
    secret.set_("hec")
    with home_tools.opened(None, None) as security:
        assert security.secrets.get("hec") == "typed"


def test_the_audit_log_is_checked(home: Path) -> None:
    assert run_json("audit", "verify")["records"] == 0
    run("secret", "set", "hec", stdin="x")
    assert "1 records" in run("audit", "verify").stdout
    path = home / "audit" / "audit.jsonl"
    path.write_text(path.read_text().replace('"hec"', '"hek"'))
    with pytest.raises(Conflict, match="record 1 was changed"):
        run("audit", "verify")


def test_certificates_are_made_even_while_the_settings_ask_for_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPLER_GRPC", "0.0.0.0:8790")
    monkeypatch.setenv("KEPLER_REQUIRE_TOKEN", "true")
    made = run_json("tls", "init", "--host", "plant.example")
    assert made["hosts"] == ["plant.example", "localhost", "127.0.0.1", "::1"]
    assert Path(made["server_cert"]).is_file()
    with pytest.raises(Conflict, match="--force"):
        run("tls", "init")
    text = run("tls", "init", "--force").stdout
    config = home / "kepler.toml"
    config.write_text("\n".join(line for line in text.splitlines()))

    from kepler.settings import load_settings

    settings = load_settings()
    assert settings.tokens_required
    assert settings.tls.cert_file == Path(made["server_cert"])


def test_the_account_is_written_down_even_without_a_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(home_tools.getpass, "getuser", nameless)
    run("secret", "set", "hec", stdin="x")
    record = json.loads((home / "audit" / "audit.jsonl").read_text())
    assert record["who"] == f"local.{os.getuid()}"


def test_another_home_and_file_can_be_named(tmp_path: Path) -> None:
    config = tmp_path / "x.toml"
    config.write_text(f'home = "{tmp_path}/other"')
    os.environ.pop("KEPLER_HOME")
    run("secret", "set", "a", "--config", str(config), stdin="x")
    assert run_json("secret", "list", "--home", str(tmp_path / "other")) == ["a"]
    assert run_json("secret", "list", "--home", str(tmp_path / "third")) == []


@pytest.mark.parametrize("text", ["", "90", "d", "0d", "-1d", "1.5h", "1w", "1d1h"])
def test_what_is_no_lifetime(text: str) -> None:
    with pytest.raises(InvalidInput, match="90d"):
        duration_s(text)


def test_lifetimes_and_times() -> None:
    assert [duration_s(text) for text in ("45s", "30m", "12h", "1d", "never")] == [
        45,
        1800,
        43_200,
        86_400,
        0,
    ]
    assert at(0) == "never"
    assert at(0, "-") == "-"
    assert at(86_400) == "1970-01-02 00:00 UTC"


def test_keys_of_others_are_trusted_listed_and_distrusted(home: Path, tmp_path: Path) -> None:
    (tmp_path / "plant.pem").write_text(run("version", "key").stdout)
    own = run_json("version", "key")
    assert own["public_key"] == (tmp_path / "plant.pem").read_text()
    with pytest.raises(Conflict, match="trusted already"):
        run("version", "trust", str(tmp_path / "plant.pem"))
    elsewhere = ("--home", str(tmp_path / "elsewhere"))
    assert (
        f"key {own['key_id']} (plant) are taken"
        in run("version", "trust", str(tmp_path / "plant.pem"), *elsewhere).stdout
    )
    listed = run_json("version", "trusted", *elsewhere)
    assert [item["name"] for item in listed] == ["this home", "plant"]
    assert own["key_id"] in run("version", "trusted", *elsewhere).stdout
    assert run_json("version", "distrust", own["key_id"], *elsewhere) == {
        "key_id": own["key_id"],
        "name": "plant",
    }
    assert len(run_json("version", "trusted", *elsewhere)) == 1
    assert run_json("version", "trust", str(tmp_path / "plant.pem"), "--name", "p", *elsewhere)["name"] == "p"
    assert "are refused now" in run("version", "distrust", own["key_id"], *elsewhere).stdout
    trail = [("key.trust", own["key_id"]), ("key.distrust", own["key_id"])]
    assert audited(tmp_path / "elsewhere") == trail * 2
    with pytest.raises(NotFound, match="cannot be read"):
        run("version", "trust", str(tmp_path / "nowhere.pem"))
