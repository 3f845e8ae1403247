"""Settings: where they come from, and that nothing unknown or unsafe passes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kepler.core.errors import InvalidInput, NotFound
from kepler.settings import Settings, load_settings, setting_keys, variable
from kepler.settings_sections import is_loopback, split_address

TLS = {"tls.cert_file": "server.crt", "tls.key_file": "server.key"}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("KEPLER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def config(folder: Path, text: str) -> Path:
    path = folder / "kepler.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_the_defaults_are_a_laptop(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.home == tmp_path / ".kepler"
    assert (settings.grpc, settings.http) == ("127.0.0.1:8790", "127.0.0.1:8791")
    assert settings.loopback
    assert not settings.tokens_required
    assert settings.log_file == tmp_path / ".kepler" / "logs" / "service.log"
    assert settings.service_file == tmp_path / ".kepler" / "service.json"


def test_flags_go_before_environment_before_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config(tmp_path / ".kepler", "[jobs]\nconcurrency = 3\nqueue_limit = 30\nmax_attempts = 5")
    monkeypatch.setenv("KEPLER_JOBS__CONCURRENCY", "4")
    monkeypatch.setenv("KEPLER_JOBS__QUEUE_LIMIT", "40")
    settings = load_settings(flags={"jobs.concurrency": 5, "jobs.results_ttl_s": None})
    jobs = settings.jobs
    assert (jobs.concurrency, jobs.queue_limit, jobs.max_attempts) == (5, 40, 5)


def test_the_file_is_that_of_the_home_that_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config(tmp_path / "a", "drain_s = 1")
    config(tmp_path / "b", "drain_s = 2")
    monkeypatch.setenv("KEPLER_HOME", str(tmp_path / "a"))
    assert load_settings().drain_s == 1
    assert load_settings(flags={"home": tmp_path / "b"}).drain_s == 2
    chosen = load_settings(tmp_path / "b" / "kepler.toml")
    assert (chosen.home, chosen.drain_s) == (tmp_path / "a", 2)


def test_settings_itself_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPLER_DRAIN_S", "77")
    assert Settings().drain_s == 30
    assert load_settings().drain_s == 77


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("KEPLER_JOBS__CONCURENCY", "KEPLER_JOBS__CONCURRENCY"),
        ("KEPLER_JOBS_CONCURRENCY", "KEPLER_JOBS__CONCURRENCY"),
        ("KEPLER_ADRESS", "KEPLER_ADDRESS"),
        ("kepler_hom", "KEPLER_HOME"),
    ],
)
def test_unknown_variables_name_the_nearest(monkeypatch: pytest.MonkeyPatch, name: str, close: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(InvalidInput, match=f"{name}. Did you mean {close}"):
        load_settings()


@pytest.mark.parametrize(
    "name",
    [
        "KEPLER_ADDRESS",
        "KEPLER_TOKEN",
        "KEPLER_CLIENT_CERT_FILE",
        "KEPLER_TEST_DATA",
        "KEPLER_SERVICE_HOST",
        "KEPLER_SERVICE_PORT_GRPC",
        "KEPLER_PORT",
        "KEPLER_PORT_8790_TCP_ADDR",
        "KEPLER_EDGE_SERVICE_HOST",
    ],
)
def test_clients_tests_and_kubernetes_may_use_the_prefix(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:8790")
    assert load_settings().grpc == "127.0.0.1:8790"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[jobs]\nconcurency = 3", "'jobs.concurency' in .*kepler.toml. Did you mean 'jobs.concurrency'"),
        ("grcp = 'x'", "Did you mean 'grpc'"),
        ("[jobs]\nconcurrency = 0", "'jobs.concurrency' in .*kepler.toml is not valid"),
        ("jobs = 3", "'jobs'"),
        ("[jobs", "no valid TOML"),
        ("drain_s = 'soon'", "'drain_s'"),
        ("grpc = '127.0.0.1'", "HOST:PORT"),
        ("database_url = 'mysql://u:canary@h/x'", "postgresql://"),
        ("[tls]\ncert_file = 'x'", "set tls.cert_file and tls.key_file"),
        ("[tls]\nclient_ca_file = 'x'", "mTLS needs TLS"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    config(tmp_path / ".kepler", text)
    with pytest.raises(InvalidInput, match=said) as caught:
        load_settings()
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value) or "TOML" in str(caught.value)


def test_bad_values_name_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPLER_LOG__LEVEL", "loud")
    with pytest.raises(InvalidInput, match=r"'log.level' in the environment"):
        load_settings()
    with pytest.raises(InvalidInput, match=r"'log.level' in the flags"):
        load_settings(flags={"log.level": "louder"})
    monkeypatch.setenv("KEPLER_LOG", "{")
    with pytest.raises(InvalidInput, match="not readable"):
        load_settings()


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="--config"):
        load_settings(tmp_path / "none.toml")
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_settings(tmp_path)
    (tmp_path / "x.toml").write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="no valid TOML"):
        load_settings(tmp_path / "x.toml")


@pytest.mark.parametrize("address", ["0.0.0.0:8790", "[::]:8790", "10.0.0.4:0", "plant.example:8790"])
@pytest.mark.parametrize("key", ["grpc", "http"])
def test_other_addresses_need_tls_and_then_tokens(key: str, address: str) -> None:
    with pytest.raises(InvalidInput, match=r"needs TLS. Set tls.cert_file and tls.key_file"):
        load_settings(flags={key: address})
    settings = load_settings(flags={key: address, **TLS})
    assert not settings.loopback
    assert settings.tokens_required


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "localhost:1", "127.9.9.9:0"])
def test_loopback_needs_nothing(address: str) -> None:
    settings = load_settings(flags={"grpc": address, "http": address})
    assert settings.loopback
    assert not settings.tokens_required


def test_asking_for_tokens_needs_tls() -> None:
    with pytest.raises(InvalidInput, match="must not travel in the clear"):
        load_settings(flags={"require_token": True})
    assert load_settings(flags={"require_token": True, **TLS}).tokens_required
    assert not load_settings(flags=TLS).tokens_required


def test_secrets_do_not_show() -> None:
    settings = load_settings(flags={"database_url": "postgresql://u:canary@h/x"})
    assert "canary" not in repr(settings)
    assert "canary" not in settings.model_dump_json()
    assert settings.database_url.get_secret_value().endswith("canary@h/x")


def test_hosts_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPLER_ALLOWED_HOSTS", "a.example, b.example,")
    assert load_settings().allowed_hosts == ("a.example", "b.example")
    assert load_settings(flags={"allowed_hosts": ["c"]}).allowed_hosts == ("c",)


def test_settings_do_not_change() -> None:
    settings: Any = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.grpc = "0.0.0.0:1"
    with pytest.raises(ValueError, match="frozen"):
        settings.jobs.concurrency = 9


@pytest.mark.parametrize("address", ["", "x", ":1", "x:", "x:a", "x:70000", "::1:5", "x:1²", "http://x:1x"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|above 65535"):
        split_address(address)


def test_names_that_only_look_like_loopback_are_not() -> None:
    assert not is_loopback("localhost.example.com")
    assert not is_loopback("127.0.0.1.example.com")


def test_every_setting_has_a_variable_that_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, _ in setting_keys():
        monkeypatch.setenv(variable(key), "not valid \0"[:9])
        if key in ("home", "allowed_hosts") or key.endswith("_file"):  # any text is one
            monkeypatch.delenv(variable(key))
            continue
        with pytest.raises(InvalidInput, match=key.replace(".", r"\.")):
            load_settings()
        monkeypatch.delenv(variable(key))
