"""Addresses, access and channels: arguments, variables, TLS or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from kepler.client import Access, Address, channel
from kepler.client.constants import (
    CLIENT_OPTIONS,
    KEEPALIVE_TIME_MS,
    SERVER_MIN_PING_INTERVAL_MS,
    SERVER_OPTIONS,
)
from kepler.core.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "loopback"),
    [("127.0.0.1:1", True), ("localhost:8790", True), ("[::1]:8790", True), ("127.8.0.1:5", True),
     ("kepler.example.com:8790", False), ("10.0.0.1:443", False), ("[fe80::1]:2", False)],
)  # fmt: skip
def test_addresses(text: str, loopback: bool) -> None:
    address = Address.parse(f" {text} ")
    assert (str(address), address.loopback) == (text, loopback)


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":8790", "host:0", "host:65536", "http://host:1", "a b:1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidInput, match="host:port"):
        Address.parse(text)


def test_arguments_go_before_variables() -> None:
    environment = {
        "KEPLER_ADDRESS": "box:1",
        "KEPLER_HOME": "/srv/kepler",
        "KEPLER_TOKEN": "t",
        "KEPLER_CA_FILE": "/ca.pem",
        "KEPLER_CLIENT_CERT_FILE": "/c.pem",
        "KEPLER_CLIENT_KEY_FILE": "/k.pem",
    }
    found = Access.resolve(environment=environment)
    assert found == Access(Path("/srv/kepler"), "box:1", "t", "/ca.pem", "/c.pem", "/k.pem")
    assert "t" not in repr(found).replace("pem", "").split("token")[-1][:3]
    assert "'t'" not in repr(found), "a token is never shown"
    other = Access.resolve(address="[::1]:2", token="u", ca_file="/d.pem", environment=environment)
    assert (other.address, other.token, other.ca_file) == ("[::1]:2", "u", "/d.pem")
    assert Access.resolve(home="/elsewhere", environment=environment).address == ""


def test_the_home_defaults_to_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Access.resolve(environment={}).home == tmp_path / ".kepler"
    assert Access.resolve(home="~/x", environment={}).home == tmp_path / "x"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    seen: list[Any] = []
    monkeypatch.setattr(grpc, "insecure_channel", lambda *args, **options: seen.append(("plain", args)))
    monkeypatch.setattr(grpc, "secure_channel", lambda *args, **options: seen.append(("tls", args)))
    monkeypatch.setattr(grpc, "ssl_channel_credentials", lambda **parts: parts)
    return seen


def test_tls_unless_loopback_without_a_ca(opened: list[Any], tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text(name)
    files = {name: str(tmp_path / name) for name in ("ca", "cert", "key")}
    none = {"root_certificates": None, "private_key": None, "certificate_chain": None}
    channel.open_channel(Access(tmp_path), Address("127.0.0.1", 1))
    channel.open_channel(Access(tmp_path), Address("box", 1))
    channel.open_channel(
        Access(tmp_path, ca_file=files["ca"], cert_file=files["cert"], key_file=files["key"]),
        Address("::1", 1),
    )
    assert opened == [
        ("plain", ("127.0.0.1:1",)),
        ("tls", ("box:1", none)),
        (
            "tls",
            ("[::1]:1", {"root_certificates": b"ca", "private_key": b"key", "certificate_chain": b"cert"}),
        ),
    ]


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="KEPLER_CLIENT_KEY_FILE"):
        channel.open_channel(Access(tmp_path, cert_file="/c.pem"), Address("box", 1))


def test_the_server_bears_the_clients_pings() -> None:
    assert dict(CLIENT_OPTIONS)["grpc.keepalive_time_ms"] == KEEPALIVE_TIME_MS
    assert KEEPALIVE_TIME_MS >= 2 * SERVER_MIN_PING_INTERVAL_MS
    client, server = dict(CLIENT_OPTIONS), dict(SERVER_OPTIONS)
    assert client["grpc.max_send_message_length"] == server["grpc.max_receive_message_length"]
    assert client["grpc.max_receive_message_length"] == server["grpc.max_send_message_length"]
    assert client["grpc.max_metadata_size"] == server["grpc.max_metadata_size"]
