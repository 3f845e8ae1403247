"""Secrets do not pass; ordinary words do."""

from __future__ import annotations

from typing import Any

import pytest

from kepler.adapters.telemetry.redaction import HEAD_CHARS, MASK, TAIL_CHARS, Redactor

TOKEN = "kp_abcdefghijkl_0123456789-0123456789_0123456789abcdefg"
USER_TOKEN = "kpu_eyJwIjoiYWJjIn0.c2lnbmF0dXJl-_x"
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEICanary\n-----END EC PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"token {TOKEN} sent", TOKEN),
        (f"x={USER_TOKEN}", USER_TOKEN),
        (f"Authorization: Bearer {TOKEN}", TOKEN),
        ("Authorization: Splunk 12345678-canary", "canary"),
        ("authorization: basic Y2FuYXJ5OnB3", "Y2FuYXJ5"),
        ("postgresql://kepler:canary@db/x", "canary"),
        ('{"password": "canary1"}', "canary1"),
        ("password=canary1&x=1", "canary1"),
        ("api_key: canary1, next", "canary1"),
        (f"key {PEM} end", "MHcCAQEEICanary"),
        (PEM[:50], "MHcCAQEEICanary"),
    ],
)
def test_secrets_are_known_by_their_shape(text: str, secret: str) -> None:
    redacted = Redactor().text(text)
    assert secret not in redacted
    assert MASK in redacted


@pytest.mark.parametrize(
    "text",
    [
        "tokens: 5",
        "job train-1 of app.search/kp_model done",
        "http://127.0.0.1:8791/readyz",
        "the token has expired",
        "bearer of news",
        "user@example.com",
    ],
)
def test_ordinary_texts_stay(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize(
    "key",
    [
        "token",
        "KEPLER_TOKEN",
        "password",
        "db_password",
        "Authorization",
        "api-key",
        "private_key",
        "Set-Cookie",
    ],
)
def test_values_go_by_their_key(key: str) -> None:
    assert Redactor()(None, "", {key: "short", "event": "x"}) == {key: MASK, "event": "x"}


def test_keys_that_only_sound_like_it_stay() -> None:
    event = {"token_id": "abc", "tokens": 3, "secret_name": "hec", "token": None, "has_token": True}
    assert Redactor()(None, "", dict(event)) == event


def test_nested_values_are_reached() -> None:
    deep: Any = TOKEN
    for _ in range(10):
        deep = [deep]
    event = {
        "event": "x",
        "headers": {"authorization": "abc", "n": 1},
        "parts": [TOKEN, (b"Bearer abcdefgh1", {"password": "p"})],
        "error": ValueError(TOKEN),
        "deep": deep,
        "_record": TOKEN,
    }
    redacted = Redactor()(None, "", event)
    assert redacted["headers"] == {"authorization": MASK, "n": 1}
    assert redacted["parts"] == [MASK, [f"Bearer {MASK}", {"password": MASK}]]
    assert redacted["error"] == MASK
    assert TOKEN not in str(redacted["deep"])
    assert redacted["_record"] == TOKEN  # structlog's own, never rendered


def test_long_values_are_cut_after_they_were_masked() -> None:
    redactor = Redactor()
    edge = "x" * (HEAD_CHARS - 10) + " " + TOKEN + " " + "y" * TAIL_CHARS
    event = redactor(
        None, "", {"event": "a", "edge": edge, "masked": f"{TOKEN} " * 1000, "huge": "z" * 70_000}
    )
    assert "kp_" not in event["edge"]
    assert " more] " in event["edge"]
    assert len(event["edge"]) < HEAD_CHARS + TAIL_CHARS + 30
    assert event["masked"] == f"{MASK} " * 1000
    assert event["huge"] == "[70000 characters]"


def test_learned_values_are_masked_wherever_they_stand() -> None:
    redactor = Redactor()
    redactor.learn("correct horse")
    redactor.learn("correct horse battery")
    redactor.learn("correct horse")
    redactor.learn("short")
    assert redactor.text("say correct horse battery, correct horse, short") == f"say {MASK}, {MASK}, short"
