"""The app's conf files agree with its code and with each other."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from pathlib import Path

import pytest

import kepler_app
from kepler_app import broker

COMMANDS = {
    "keplertrain": True,
    "keplerpredict": False,
    "keplerscore": False,
    "keplersummary": False,
    "keplermodels": False,
    "keplerdelete": True,
    "keplerversion": True,
    "keplerdeploy": True,
    "kepleredge": True,
    "keplerjobs": False,
    "keplerhealth": False,
}
OWN_OPTIONS = {
    "keplertrain": "output nulls categoricals seed test_size kfold_cv partial_fit probabilities tags dry_run wait timeout",
    "keplerpredict": "probabilities on_missing",
    "keplerdeploy": "dry_run wait timeout id",
}


@pytest.fixture
def package(root: Path) -> Path:
    return root / "splunk_app" / "package"


def conf(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(re.sub(r"(?m)^\[\]", "[all]", path.read_text()))
    return parser


def test_every_command_is_declared_and_has_its_script(package: Path) -> None:
    commands = conf(package / "default/commands.conf")
    assert set(commands.sections()) == set(COMMANDS)
    for name, risky in COMMANDS.items():
        stanza = dict(commands[name])
        assert stanza == {
            "filename": f"{name}.py",
            "chunked": "true",
            "is_risky": str(risky).lower(),
            "run_in_preview": "false",
            "python.version": "python3",
            "python.required": "3.9, 3.13",
        }
        text = (package / "bin" / f"{name}.py").read_text()
        assert f"The search command {name};" in text


def test_every_command_and_option_has_help_with_examples(package: Path) -> None:
    help_ = conf(package / "default/searchbnf.conf")
    for name in COMMANDS:
        stanza = help_[f"{name}-command"]
        assert stanza["syntax"].startswith(name)
        assert stanza["usage"] == "public"
        assert len(stanza["description"]) > 60 or name == "keplerhealth"
        examples = [key for key in stanza if key.startswith("example")]
        assert examples
        for key in examples:
            assert name in stanza[key]
            assert stanza[key.replace("example", "comment")]
        for other in stanza["related"].split():
            assert other in COMMANDS
    for name, options in OWN_OPTIONS.items():
        for option in options.split():
            stanza = help_[f"{name}-{option}-option"]
            assert stanza["syntax"].startswith(f"{option}=")
            assert stanza["example1"].startswith(f"{option}=")
            assert f"<{name}-{option}-option>" in help_[f"{name}-option"]["syntax"]


def test_every_reference_in_the_help_exists(package: Path) -> None:
    help_ = conf(package / "default/searchbnf.conf")
    known = set(help_.sections()) | {"field", "string", "int", "bool", "num", "time"}
    used = {
        name for section in help_.sections() for name in re.findall(r"<([a-z_-]+)>", help_[section]["syntax"])
    }
    assert used <= known


def test_capabilities_are_those_the_broker_knows(package: Path) -> None:
    roles = conf(package / "default/authorize.conf")
    declared = {
        name.removeprefix("capability::") for name in roles.sections() if name.startswith("capability::")
    }
    assert declared == {broker.PREFIX + name for name in broker.CAPABILITIES}
    granted = {key for name in roles.sections() if name.startswith("role_") for key in roles[name]} - {
        "importRoles"
    }
    assert granted == declared
    rest = conf(package / "default/restmap.conf")["script:kepler_token_broker"]
    assert set(re.findall(r"kepler_\w+", rest["capability"])) == declared
    assert rest["passSystemAuth"] == "true"
    assert rest["python.required"] == "3.9, 3.13"


def test_the_broker_is_not_exposed_to_browsers(package: Path) -> None:
    assert not (package / "default/web.conf").exists(), "UCC's own web.conf exposes its settings page only"


def test_one_version_everywhere(root: Path, package: Path) -> None:
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    config = json.loads((root / "splunk_app/globalConfig.json").read_text())
    manifest = json.loads((package / "app.manifest").read_text())
    app = conf(package / "default/app.conf")
    assert config["meta"]["version"] == version
    assert manifest["info"]["id"]["version"] == version
    assert app["launcher"]["version"] == app["id"]["version"] == version
    assert version == kepler_app.VERSION


def test_the_configuration_page_has_what_the_broker_reads(root: Path) -> None:
    config = json.loads((root / "splunk_app/globalConfig.json").read_text())
    tabs = config["pages"]["configuration"]["tabs"]
    fields = {item["field"]: item for item in tabs[0]["entity"]}
    assert tabs[0]["name"] == "service"
    assert {
        "address",
        "ca_certificate",
        "client_cert_file",
        "client_key_file",
        "token",
        "transfer",
        "test_connection",
    } == set(fields)
    assert [name for name, field in fields.items() if field.get("encrypted")] == ["token"]
    assert {"type": "loggingTab"} in tabs
    pattern = re.compile(fields["address"]["validators"][1]["pattern"])
    for good in ("kepler.example.com:8790", "127.0.0.1:8790", "[::1]:8790", "localhost"):
        assert pattern.fullmatch(good)
    for bad in ("https://kepler:8790", "kepler:", "a b:1", "x/y"):
        assert not pattern.fullmatch(bad)


def test_every_warning_of_the_last_inspection_is_answered(root: Path) -> None:
    report = root / "build" / "appinspect.json"
    if not report.exists():
        pytest.skip("AppInspect has not run here: tools/build_app.py --inspect")
    page = (root / "docs/reference/appinspect.md").read_text()
    result = json.loads(report.read_text())
    checks = [check for item in result["reports"] for group in item["groups"] for check in group["checks"]]
    assert checks
    assert [
        check["name"] for check in checks if check["result"] in ("error", "failure", "future_failure")
    ] == []
    for check in checks:
        if check["result"] == "warning":
            assert f"`{check['name']}`" in page


def test_every_command_and_option_is_in_the_reference(root: Path) -> None:
    page = (root / "docs/reference/search-commands.md").read_text()
    for name in COMMANDS:
        assert name in page
    for options in OWN_OPTIONS.values():
        for option in options.split():
            assert option in page
