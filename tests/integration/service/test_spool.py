"""A running service sends to the collector over TLS; an administrator looks at what waits and what was refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from fakes.splunkd import Splunkd
from support.hec_events import wait_until
from support.running_service import RunningService, running


def kepler(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KEPLER_")}
    return subprocess.run(
        [sys.executable, "-m", "kepler", *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        env=clean,
        check=False,
    )


def on(service: RunningService, *arguments: str) -> Any:
    done = kepler(*arguments, "--json", "--address", service.grpc)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(40)))
    return path


def test_jobs_reach_splunk_and_nothing_is_lost_while_it_is_down(tmp_path: Path, rows: Path) -> None:
    home = tmp_path / "home"
    with Splunkd(listen=False) as splunkd:
        splunkd.events.create("kepler")
        hec = splunkd.hec.start(tls=True)
        token = hec.add_token(use_ack=True)
        hec.down = True
        env = {
            "KEPLER_HEC__URL": hec.url,
            "KEPLER_HEC__CA_FILE": str(hec.ca_file),
            "KEPLER_HEC__ACK_POLL_S": "0.1",
            "KEPLER_HEC__MAX_BACKOFF_S": "1",
        }
        with running(home, env=env) as service:
            train = ("train", str(rows), "-t", "y", "-a", "LogisticRegression", "--into", "app:m", "-q")
            done = kepler(*train, "--address", service.grpc)
            assert done.returncode == 0, done.stderr
            wait_until(lambda: "splunk-hec-token" in on(service, "hec", "status")[0]["problem"])
            stored = kepler("secret", "set", "splunk-hec-token", "--home", str(home), stdin=token)
            assert stored.returncode == 0, stored.stderr
            wait_until(lambda: on(service, "hec", "status")[0]["failures"])
            waiting = kepler("hec", "flush", "--timeout", "0.2", "--address", service.grpc)
            assert waiting.returncode != 0
            assert "1 events still wait for Splunk" in waiting.stderr
            page = urllib.request.urlopen(f"http://{service.http}/metrics").read().decode()
            assert 'kepler_hec_spool_events{destination="events"} 1.0' in page
            assert 'kepler_hec_failing{destination="events"} 1.0' in page
            log = service.log
        # The next service finds it in the spool.
        hec.down = False
        with running(home, env=env) as service:
            assert on(service, "hec", "flush")["empty"]
            assert on(service, "hec", "status")[0]["sent"] == 1
        found = splunkd.search("search index=kepler sourcetype=kepler:job").rows
    assert token not in log
    assert len(found) == 1
    assert (found[0]["state"], found[0]["model"], found[0]["subject"]) == (
        "succeeded", "app.search/m@1", "LogisticRegression into app.search/m",
    )  # fmt: skip
    assert found[0]["event_id"] == f"job:{found[0]['job_id']}:succeeded"


def test_dead_letters_are_listed_put_back_and_deleted(tmp_path: Path, rows: Path) -> None:
    home = tmp_path / "home"
    with Splunkd(listen=False) as splunkd:
        splunkd.events.create("kepler")
        hec = splunkd.hec.start()
        hec.is_blank = lambda _: True
        assert (
            kepler("secret", "set", "splunk-hec-token", "--home", str(home), stdin=hec.add_token()).returncode
            == 0
        )
        with running(home, env={"KEPLER_HEC__URL": hec.url}) as service:
            train = ("train", str(rows), "-t", "y", "-a", "LogisticRegression", "--into", "app:m", "-q")
            for _ in range(2):
                assert kepler(*train, "--address", service.grpc).returncode == 0
            wait_until(lambda: len(on(service, "hec", "dead-letter", "list")) == 2)
            one, two = on(service, "hec", "dead-letter", "list")
            assert (one["code"], one["reason"], one["source"]) == (13, "Event field cannot be blank", "jobs")
            assert '"sourcetype":"kepler:job"' in one["body"]
            refused = kepler("hec", "dead-letter", "delete", "--address", service.grpc)
            assert "Give ids or --all" in refused.stderr
            hec.is_blank = None
            assert on(service, "hec", "dead-letter", "retry", str(one["id"])) == {
                "events": 1,
                "done": "put back",
            }
            assert on(service, "hec", "dead-letter", "delete", "--all") == {"events": 1, "done": "deleted"}
            assert on(service, "hec", "flush")["empty"]
            audit = (home / "audit").rglob("*")
            said = "".join(path.read_text() for path in audit if path.is_file())
        assert '"hec.retry"' in said
        assert '"hec.delete"' in said
        assert str(two["id"]) != str(one["id"])
        assert len(splunkd.search("search index=kepler sourcetype=kepler:job").rows) == 1
