"""An agent's releases in a process that is killed at a chosen write of the journal.

    python edge_release_driver.py REQUEST.json

The request names ``home``, ``folders`` (by release), ``trust``, ``documents``, ``selftest`` (whether the real one),
``kill`` (number of the write, from 0; -1 for none) and ``before`` (whether the write itself is lost).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from kepler_edge.clock import Clock, Sync
from kepler_edge.journal import Journal
from kepler_edge.keys import Trust
from kepler_edge.releases import Releases
from kepler_edge.selftest import Report, SelfTest

ROW = {"a": 0.3, "b": 9.0, "colour": "red"}


class KillingJournal(Journal):
    """Ends its process at one of its writes, before or after it is on the disk."""

    writes = 0
    kill = -1
    before = False

    def _commit(self) -> Any:
        number, KillingJournal.writes = KillingJournal.writes, KillingJournal.writes + 1
        if number == self.kill and self.before:
            os.kill(os.getpid(), signal.SIGKILL)
        inner = super()._commit()
        if number != self.kill:
            return inner
        return _Killing(inner)


class _Killing:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __enter__(self) -> None:
        self._inner.__enter__()

    def __exit__(self, *given: Any) -> None:
        self._inner.__exit__(*given)
        os.kill(os.getpid(), signal.SIGKILL)


class Passed:
    """A self-test that has passed: the real one has tests of its own, and takes half a second."""

    def __init__(self, *given: Any) -> None:
        pass

    def poll(self) -> Report:
        return Report("", {"rss_mb": 1.0})

    def stop(self) -> None:
        pass


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text())
    KillingJournal.kill, KillingJournal.before = request["kill"], request["before"]
    home = Path(request["home"])
    began = time.perf_counter()
    folders = {release: Path(folder) for release, folder in request["folders"].items()}

    def fetch(file: Any, offset: int) -> bytes:
        with (folders[file.release] / file.path).open("rb") as source:
            source.seek(offset)
            return source.read(4096)

    told = (home / "told.jsonl").open("a")

    def tell(step: dict[str, Any]) -> None:
        told.write(json.dumps(step) + "\n")
        told.flush()
        os.fsync(told.fileno())

    releases = Releases(
        home,
        Trust.from_base64(request["trust"]),
        fetch=fetch,
        clock=Clock(probe=lambda: Sync(True, 1.0)),
        on_transition=tell,
        journal=KillingJournal(home / "releases.db"),
        selftest=SelfTest if request["selftest"] else Passed,
    )
    first = releases.serving().get("app.search/m")
    started = {"version": first.version if first else None, "ready_s": time.perf_counter() - began}
    releases.desired(request["documents"])
    end = time.monotonic() + 60
    while not releases.settled() and time.monotonic() < end:
        releases.tick(0.05)
        for model in releases.serving().values():
            releases.observe(model, model.score(ROW))
    model = releases.serving()["app.search/m"]
    print(
        json.dumps(
            {
                "started": started,
                "version": model.version,
                "out": model.score(ROW).out,
                "reported": releases.reported(),
                "steps": [step.told() for step in releases._journal.steps()],
                "writes": KillingJournal.writes,
            }
        )
    )
    releases.close()


if __name__ == "__main__":
    main()
