"""The built app as splunkd starts it, under the Pythons that Splunk ships."""

from __future__ import annotations

import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

import fakes.service_double
from fakes.splunkd import Splunkd
from integration.splunk_app.search_head import plan as plan_of
from integration.splunk_app.talk import (
    LAST,
    MORE,
    Double,
    Process,
    cells,
    getinfo,
    make_certificate,
    records,
)
from kepler.client.constants import SERVER_OPTIONS
from kepler.core.errors import TimedOut
from kepler.v1 import prediction_pb2
from kepler_app import VERSION
from unit.splunk_app.test_confs import COMMANDS

pytestmark = [pytest.mark.splunk_python, pytest.mark.timeout(180)]
HEAVY = {
    "asyncio",
    "ssl",
    "socket",
    "logging",
    "google",
    "grpclib",
    "h2",
    "kepler",
    "typing",
    "dataclasses",
    "http",
}
ARGUMENTS = {
    "keplertrain": ["KMeans", "a", "into", "app:m"],
    "keplerpredict": ["app:m"],
    "keplerscore": ["r2_score", "a"],
    "keplersummary": ["app:m"],
    "keplerdelete": ["app:m"],
    "keplerversion": ["list", "app:m"],
    "keplerdeploy": ["targets"],
    "kepleredge": ["devices"],
}


def test_every_command_runs(splunk_python: str, built_app: Path) -> None:
    env = {"SPLUNK_HOME": ""}
    with Double() as service:
        env["KEPLER_ADDRESS"] = service.address
        for name in sorted(COMMANDS, key=lambda name: name != "keplertrain"):
            if name == "keplerdelete":
                continue
            with Process(splunk_python, built_app, name, **env) as command:
                plan, _ = command.say(getinfo(*ARGUMENTS.get(name, [])))
                assert "error" not in plan, (name, plan)
                assert command.say(MORE if not plan.get("generating") else LAST, b"")[0].get("error") is None
                if not plan.get("generating"):
                    metadata, body = command.say(LAST, b"a,predicted(y)\n1,1\n2,2\n")
                    if name == "keplerscore":
                        assert "error" in metadata, "the double compares two columns"
                        continue
                    assert metadata["finished"] is True, metadata
                    assert [row["a"] for row in records(body)] == ["1", "2"]
                code, rest = command.end()
                assert (code, rest) == (0, b""), name
        with Process(splunk_python, built_app, "keplerdelete", **env) as command:
            command.say(getinfo("app:m"))
            assert cells(command.say(LAST)[1])[1] == ["app.search/m", "1", "deleted"]


def test_errors_and_ends_are_clean(splunk_python: str, built_app: Path) -> None:
    with Double() as gone:
        address = gone.address
    for name in ("keplertrain", "keplerpredict", "keplermodels", "keplerhealth"):
        with Process(splunk_python, built_app, name, KEPLER_ADDRESS=address) as command:
            plan, _ = command.say(getinfo(*ARGUMENTS.get(name, [])))
            metadata, _ = command.say(LAST, b"" if plan.get("generating") else b"a\n1\n")
            if name == "keplerhealth":
                assert "error" not in metadata
            else:
                assert "does not answer" in metadata["error"]
            code, rest = command.end()
            assert (code, rest) == (0 if name == "keplerhealth" else 1, b"")
        with Process(splunk_python, built_app, name) as command:
            command.say(getinfo(*ARGUMENTS.get(name, [])))
            assert command.end() == (0, b""), "a planning run"


def test_sigterm_and_a_closed_output_end_quietly(splunk_python: str, built_app: Path) -> None:
    with Double() as service:
        service.misbehave = "hang"
        env = {"KEPLER_ADDRESS": service.address}
        with Process(splunk_python, built_app, "keplerpredict", **env) as command:
            command.say(getinfo("app:m"))
            assert command.child.stdin is not None
            from integration.splunk_app.talk import frame

            command.child.stdin.write(frame(LAST, b"a\n1\n"))
            command.child.stdin.flush()
            while not service.seen:
                assert command.child.poll() is None
            command.child.send_signal(signal.SIGTERM)
            assert command.child.wait(20) == 0
            assert command.child.stdout is not None
            assert command.child.stderr is not None
            assert command.child.stdout.read() + command.child.stderr.read() == b""


def test_a_service_that_sends_connections_away_ends_no_search(
    splunk_python: str, built_app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the grpclib and h2 of the app, under its Pythons; in detail in test_goaway.py."""
    table = {**dict(SERVER_OPTIONS), "grpc.max_connection_age_ms": 300}
    table["grpc.max_connection_age_grace_ms"] = 60_000
    monkeypatch.setattr(fakes.service_double, "SERVER_OPTIONS", tuple(table.items()))
    plans = {
        "keplerpredict": ["app:m"],
        "keplertrain": ["LogisticRegression", "y", "from", "a", "into", "app:m"],
    }
    with Double() as service:
        service.signature, service.fields = "s", ["a"]
        env = {"KEPLER_ADDRESS": service.address, "SPLUNK_HOME": ""}
        for name, args in plans.items():
            with Process(splunk_python, built_app, name, **env) as command:
                command.say(getinfo(*args))
                assert "error" not in command.say(MORE, b"a,y\n1,2\n")[0]
                for number in range(3):
                    time.sleep(0.2)
                    assert "error" not in command.say(MORE, b"a,y\n%d,2\n" % number)[0]
                metadata, body = command.say(LAST, b"a,y\n8,2\n")
                assert "error" not in metadata
                last = {"p": "8!"} if name == "keplerpredict" else {"predicted(y)": "8!"}
                assert records(body)[-1] == {"a": "8", "y": "2", **last}
                assert command.end() == (0, b"")


def test_idle_streams_and_ended_tokens(
    splunk_python: str, built_app: Path, splunkd: Splunkd, secure: Double
) -> None:
    def impatient(requests: Any, context: Any) -> Any:
        secure._begin("Predict", context)
        next(requests)
        opened = prediction_pb2.PredictOpened(model="app.search/m@1", signature="s", output_columns=["p"])
        yield prediction_pb2.PredictResponse(opened=opened)
        request = next(requests, None)
        if request is not None:
            scored = prediction_pb2.Scored(rows=1, values=request.rows, one_line_per_row=True)
            yield prediction_pb2.PredictResponse(scored=scored)
            time.sleep(0.3)
            secure.issued.append(None)  # and the token has ended, too
            secure._abort(TimedOut("The client sent nothing for too long"), context)

    secure.newest_only = True
    secure.instead["Predict"] = impatient
    plan = plan_of(splunkd, "ana", "app:m")
    with Process(splunk_python, built_app, "keplerpredict", SPLUNK_HOME="") as command:
        command.say(plan)
        for number in range(3):
            metadata, body = command.say(LAST if number == 2 else MORE, b"a\n%d\n" % number)
            assert "error" not in metadata, metadata
            assert records(body) == [{"a": str(number), "p": str(number)}]
            time.sleep(0.5)
        assert command.end() == (0, b"")


def test_client_certificates_are_shown_and_missed(
    splunk_python: str, built_app: Path, tmp_path: Path
) -> None:
    ca, _, issuer = make_certificate(names=("Test CA",))
    certificate, key, _ = make_certificate(issuer=issuer)
    service = Double()
    env = {"KEPLER_ADDRESS": service.secure(certificate, key, client_ca=ca), "SPLUNK_HOME": ""}
    for name, content in (("ca", ca), ("crt", certificate), ("key", key)):
        (tmp_path / name).write_bytes(content)
    env["KEPLER_CA_FILE"] = str(tmp_path / "ca")
    pair = {"KEPLER_CLIENT_CERT_FILE": str(tmp_path / "crt"), "KEPLER_CLIENT_KEY_FILE": str(tmp_path / "key")}
    with service:
        with Process(splunk_python, built_app, "keplermodels", **env, **pair) as command:
            command.say(getinfo())
            assert "error" not in command.say(LAST)[0]
            assert command.end() == (0, b"")
        with Process(splunk_python, built_app, "keplermodels", **env) as command:
            command.say(getinfo())
            assert "It may ask for a client certificate" in command.say(LAST)[0]["error"]
            assert command.end() == (1, b"")


def test_a_plan_imports_nothing_heavy(splunk_python: str, built_app: Path) -> None:
    lines = [
        "import io, sys",
        f"sys.path[:0] = [{str(built_app / 'bin')!r}, {str(built_app / 'lib')!r}]",
        "from kepler_app.chunks import serve",
        *(
            f"from kepler_app.commands.{name[6:]} import Kepler{name[6:].title()} as C{number}"
            for number, name in enumerate(COMMANDS)
        ),
        "from kepler_app.commands.predict import KeplerPredict",
        f"plan = {getinfo('app:m')!r}",
        "print(KeplerPredict().getinfo(plan))",
        f"print(sorted({HEAVY!r} & set(sys.modules)))",
    ]
    done = subprocess.run(
        [splunk_python, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        env={"SPLUNK_HOME": "/nonexistent"},
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["{'type': 'stateful'}", "[]"]


def test_the_package_has_no_binaries_and_the_pages_files(built_app: Path, root: Path) -> None:
    assert built_app.is_dir()
    [package] = (root / "dist").glob(f"kepler-{VERSION}.tar.gz")
    with tarfile.open(package) as archive:
        files = {name.removeprefix("kepler/") for name in archive.getnames()}
    assert not [name for name in files if name.endswith((".so", ".pyd", ".pyc", ".dll"))]
    assert {f"bin/{name}.py" for name in COMMANDS} <= files
    for name in (
        "bin/kepler_rh_settings.py",
        "bin/kepler_token_broker.py",
        "default/web.conf",
        "app.manifest",
    ):
        assert name in files
    assert "kepler/v1/prediction_pb2.py" in {name.removeprefix("lib/") for name in files}
    assert not [name for name in files if name.endswith("_pb2_grpc.py")]
