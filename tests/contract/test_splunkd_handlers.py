"""Persistent REST handlers of an app, as restmap.conf describes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import splunklib.client as client
from splunklib.binding import HTTPError

from fakes.splunkd import Splunkd, has_python
from fakes.splunkd.persistent import has_capabilities

APP = Path(__file__).parents[1] / "data" / "standin_app"


@pytest.fixture(params=["3.9", "3.13", None])
def splunkd(request: pytest.FixtureRequest) -> Iterator[Splunkd]:
    if request.param and not has_python(request.param):
        pytest.skip(f"CPython {request.param} is not installed")
    with Splunkd([APP], python=request.param) as made:
        made.add_user("ann", "ann-pw", roles=["user"])
        made.add_user("bob", "bob-pw", roles=["standin_trusted"])
        yield made


def ask(splunkd: Splunkd, user: str, path: str = "standin/broker", **more: Any) -> dict[str, Any]:
    service = client.connect(**splunkd.sdk_kwargs(user))
    return json.loads(service.post(path, **more).body.read())


def test_a_handler_is_asked_with_user_and_system_tokens(splunkd: Splunkd) -> None:
    told = ask(splunkd, "bob", "standin/broker/deeper/still", a="1", app="standin_app", owner="bob")
    request = told["request"]
    assert request["method"] == "POST"
    assert request["rest_path"] == "/standin/broker/deeper/still"
    assert request["path_info"] == "deeper/still"
    assert request["form"] == [["a", "1"]]
    assert request["payload"] == "a=1"
    assert request["ns"] == {"app": "standin_app", "user": "bob"}
    assert request["session"]["user"] == "bob"
    assert request["restmap"]["conf"]["handler"] == "broker.Broker"
    assert request["server"]["rest_uri"] == splunkd.uri
    assert splunkd.accounts.user_of(request["session"]["authtoken"]) == "bob"
    # The system token reads what the user may not.
    base = {k: v for k, v in splunkd.sdk_kwargs().items() if k in ("scheme", "host", "port")}
    splunkd.set_password("search", "r", "u", "clear")
    system = client.Service(**base, token=f"Splunk {request['system_authtoken']}")
    assert [p.clear_password for p in system.storage_passwords] == ["clear"]


def test_the_process_is_kept(splunkd: Splunkd) -> None:
    first, second = ask(splunkd, "bob"), ask(splunkd, "admin")
    assert (first["pid"], first["asked"], second["asked"]) == (second["pid"], 1, 2)
    assert "prints do not garble the reply" in splunkd.handlers.stderr


def test_capabilities_guard_a_handler(splunkd: Splunkd) -> None:
    with pytest.raises(HTTPError) as caught:
        ask(splunkd, "ann")
    assert caught.value.status == 403
    bob = client.connect(**splunkd.sdk_kwargs("bob"))
    with pytest.raises(HTTPError) as caught:
        bob.delete("standin/broker")
    assert caught.value.status == 403
    base = {k: v for k, v in splunkd.sdk_kwargs().items() if k in ("scheme", "host", "port")}
    with pytest.raises(HTTPError) as caught:
        client.Service(**base, token="Splunk no").get("standin/broker")
    assert caught.value.status == 401


def test_an_open_handler_gets_what_its_stanza_says(splunkd: Splunkd) -> None:
    import urllib.request

    url = splunkd.uri + "/services/standin/open?q=1"
    with urllib.request.urlopen(
        urllib.request.Request(url, data=b"\xff\x00", headers={"X-Mine": "1"})
    ) as answer:
        request = json.loads(answer.read())["request"]
    assert base64.b64decode(request["payload_base64"]) == b"\xff\x00"
    assert request["query"] == [["q", "1"]]
    assert ["x-mine", "1"] in request["headers"]
    assert "session" not in request
    assert "system_authtoken" not in request
    assert "conf" not in request["restmap"]


def test_replies_of_every_shape(splunkd: Splunkd) -> None:
    service = client.connect(**splunkd.sdk_kwargs("bob"))
    answer = service.get("standin/broker/text")
    assert (answer.status, answer.body.read()) == (202, b"plain")
    assert ("X-A", "b") in answer.headers
    assert json.loads(service.get("standin/broker/bare").body.read()) == ["not", "a", "dict"]
    for how, text in (("raise", 'python handler: "broken"'), ("exit", "the handler process ended")):
        with pytest.raises(HTTPError, match=text) as caught:
            service.get(f"standin/broker/{how}")
        assert caught.value.status == 500
    assert ask(splunkd, "bob")["asked"] == 1


@pytest.mark.parametrize(
    ("expression", "held", "answer"),
    [
        ("a", {"a"}, True),
        ("a", set(), False),
        ("a or b and c", {"a"}, True),
        ("(a or b) and c", {"a"}, False),
        ("(a or b) and (c)", {"b", "c"}, True),
        ("", {"a"}, False),
    ],
)
def test_capability_expressions(expression: str, held: set[str], answer: bool) -> None:
    assert has_capabilities(expression, held) is answer
