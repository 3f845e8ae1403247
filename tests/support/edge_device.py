"""One agent's releases with clocks that go when told to, and the folders a service would serve."""

from __future__ import annotations

import time

from kepler_edge.clock import Clock, Sync
from kepler_edge.releases import Releases
from kepler_edge.selftest import Report
from support.edge_models import FolderFetch, draft, registered, release_document, sample_rows

ROWS = sample_rows(60, seed=5)
WAY = ["offered", "preflight", "downloading", "verifying", "staged", "selftest", "probation", "committed"]


class Time:
    """Clocks that go when told to."""

    def __init__(self):
        self.wall, self.now, self.set = 1.8e9, 100.0, True
        self.clock = Clock(lambda: self.wall, lambda: self.now, lambda: Sync(self.set, 1.0), boot="0" * 16)

    def go(self, seconds):
        self.wall += seconds
        self.now += seconds


class Device:
    """One agent's releases, with the folders a service would serve."""

    def __init__(self, home, signing, **more):
        self.home, self.signing, self.more = home, signing, more
        self.time = Time()
        self.fetch = FolderFetch({})
        self.told = []
        self.start()

    def start(self):
        self.releases = Releases(
            self.home / "device",
            self.signing.trust,
            fetch=self.fetch,
            clock=self.time.clock,
            on_transition=self.told.append,
            **self.more,
        )

    def restart(self):
        self.releases.close()
        self.start()

    def version(self, release, kind="linear", *, version=1, signing=None, name="app.search/m", **more):
        folder = self.home / "service" / release
        registered(draft(kind), folder, signing or self.signing, name=name, version=version)
        self.fetch.folders[release] = folder
        return release_document(folder, release=release, **more)

    def run(self, *, until=None, score=True, seconds=120.0, idle_s=0.3):
        """Tick, and score what serves, until nothing is under way or ``until`` holds.

        ``idle_s`` pass on the clocks with each tick that changes nothing.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if until() if until else self.releases.settled():
                return
            if not self.releases.tick(0.05):
                self.time.go(idle_s)
            if score:
                self.score()
        raise AssertionError(f"still under way: {self.releases.reported()}")

    def score(self, rows=ROWS[:10]):
        for models in (self.releases.serving(), self.releases.shadows()):
            for model in models.values():
                for row in rows:
                    try:
                        self.releases.observe(model, model.score(row))
                    except Exception as error:
                        self.releases.observe(model, None, error)

    def install(self, *documents):
        self.releases.desired(list(documents))
        self.run()

    def state(self, release):
        return next((row["state"] for row in self.releases.reported() if row["id"] == release), None)

    def reason(self, release):
        return next(row["reason"] for row in self.releases.reported() if row["id"] == release)

    def way(self, release):
        return [step["to"] for step in self.told if step["release"] == release]

    @property
    def version_now(self):
        model = self.releases.serving().get("app.search/m")
        return model.version if model else None


class AlwaysGood:
    """A self-test that has passed."""

    def __init__(self, *given):
        pass

    def poll(self):
        return Report("", {"rss_mb": 1.0})

    def stop(self):
        pass
