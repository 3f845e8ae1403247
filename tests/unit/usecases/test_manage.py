"""Owners see and change their own; every change is audited."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fakes.model_store import InMemoryModelStore
from fakes.service_parts import MemoryAudit, MemoryJobs
from kepler.core.errors import Conflict, InvalidInput, NotFound
from kepler.core.jobs import JobState
from kepler.core.training import SearchContext, TrainOutcome, TrainSpec
from kepler.ports.security import CAPABILITIES, Principal, TokenInfo
from kepler.usecases.identity import Caller, caller_of
from kepler.usecases.manage import IssueTokens, ManageJobs, ManageModels


def caller(user: str, *extra: str) -> Caller:
    principal = Principal(user, frozenset({"train", "predict", *extra}), "t")
    return caller_of(principal, user="", app="search", search=SearchContext())


ANA, BOB, ROOT = caller("ana"), caller("bob"), caller("root", "admin")


@pytest.fixture
def models(tmp_path: Path) -> InMemoryModelStore:
    store = InMemoryModelStore()
    for number, name in enumerate(["user.ana/m", "user.ana/m", "app.search/shared", "user.bob/secret"]):
        spec = TrainSpec(f"j{number}", "Ridge", ("a",), ("a",), model=name, owner=name.split("/")[0][5:])
        store.register(spec, TrainOutcome(), tmp_path / str(number))
    return store


@pytest.fixture
def audit() -> MemoryAudit:
    return MemoryAudit()


def test_lists_are_paged_and_private_models_are_private(models, audit):
    manage = ManageModels(models, audit)
    page, following = manage.list(ANA, "", limit=1, offset=0)
    rest, end = manage.list(ANA, "*", limit=10, offset=following)
    assert [str(item.name) for item in (*page, *rest)] == ["app.search/shared", "user.ana/m"]
    assert end == 0
    assert len(manage.list(ROOT, "", limit=0, offset=0)[0]) == 3
    with pytest.raises(InvalidInput, match="1 to 1000"):
        manage.list(ANA, "", limit=1001, offset=0)


def test_aliases_move_and_roll_back_with_a_record_each(models, audit):
    manage = ManageModels(models, audit)
    manage.set_alias(ANA, "m@1", "prod")
    assert manage.set_alias(ANA, "m", "prod").version == 2
    assert manage.resolve(ANA, "m@prod").version == 2
    assert manage.rollback(ANA, "m", "prod").version == 1
    manage.delete_alias(ANA, "m", "prod")
    with pytest.raises(NotFound):
        manage.resolve(ANA, "m@prod")
    assert [record[1] for record in audit.records if record[3] == "done"] == [
        "alias.set",
        "alias.set",
        "alias.rollback",
        "alias.delete",
    ]
    for name in ("latest", "7", "a b"):
        with pytest.raises(InvalidInput):
            manage.set_alias(ANA, "m", name)


def test_versions_are_listed_newest_first(models, audit):
    assert [item.version for item in ManageModels(models, audit).versions(ANA, "m@1")] == [2, 1]


def test_deleting_takes_a_version_or_the_whole(models, audit):
    forgotten = []
    manage = ManageModels(models, audit, lambda record: forgotten.append(record.version))
    manage.set_alias(ANA, "m@1", "prod")
    with pytest.raises(InvalidInput, match="names an alias"):
        manage.delete(ANA, "m@prod")
    with pytest.raises(Conflict, match="prod"):
        manage.delete(ANA, "m@1")
    assert manage.delete(ANA, "m@latest")[1] == [2]
    assert manage.delete(ANA, "m")[1] == [1]
    assert forgotten == [2, 1]
    assert audit.records[-1][1:] == ("model.delete", "user.ana/m", "done")
    assert ("ana", "model.delete", "user.ana/m@1", "failed") in audit.records


def test_somebody_elses_model_is_not_there(models, audit):
    manage = ManageModels(models, audit)
    for act in (
        lambda: manage.resolve(ANA, "user.bob/secret"),
        lambda: manage.versions(ANA, "user.bob/secret"),
        lambda: manage.delete(ANA, "user.bob/secret"),
        lambda: manage.set_alias(ANA, "user.bob/secret", "prod"),
    ):
        with pytest.raises(NotFound):
            act()
    assert manage.resolve(ROOT, "user.bob/secret").version == 1


def test_jobs_are_their_owners(tmp_path, audit):
    jobs = MemoryJobs(tmp_path)
    for number, owner in enumerate(["ana", "bob", "ana"]):
        jobs.submit_training(TrainSpec(f"j{number}", "Ridge", ("a",), ("a",), owner=owner))
    jobs.records["j2"] = replace(jobs.records["j2"], state=JobState.FAILED)
    manage = ManageJobs(jobs, audit)
    page, following = manage.list(ANA, "", limit=1, offset=0)
    assert ([job.id for job in page], following) == (["j2"], 1)
    assert [job.id for job in manage.list(ANA, "queued", limit=0, offset=0)[0]] == ["j0"]
    assert len(manage.list(ROOT, "", limit=0, offset=0)[0]) == 3
    with pytest.raises(NotFound):
        manage.get(ANA, "j1")
    with pytest.raises(NotFound):
        manage.cancel(BOB, "j0")
    assert manage.cancel(ANA, "j0").state is JobState.CANCELLED
    assert audit.records == [("ana", "job.cancel", "j0", outcome) for outcome in ("begun", "done")]
    with pytest.raises(InvalidInput, match="not a state"):
        manage.list(ANA, "done", limit=0, offset=0)


class Tokens:
    """Enough of `ports.security.TokenStore` to see what was asked."""

    def issue(self, parent, user, capabilities, ttl_s):
        granted = capabilities & parent.capabilities
        return Principal(user, granted, "u", ttl_s), "kpu_x"

    def create(self, name, user, capabilities, ttl_s): ...

    def authenticate(self, token): ...

    def list(self) -> list[TokenInfo]:
        return []

    def revoke(self, token_id): ...


def test_tokens_are_issued_within_bounds_and_audited(audit):
    parent = Principal("", frozenset({"issue", "predict"}), "install")
    issue = IssueTokens(Tokens(), audit)
    principal, token = issue.issue(parent, "ana", ["predict", "train"], 0)
    assert (principal.capabilities, principal.expires_at, token) == ({"predict"}, 600.0, "kpu_x")
    assert audit.records == [("install", "token.issue", "ana", "done")]
    for user, capabilities, ttl_s in (("", ["predict"], 1), ("ana", ["issue"], 1), ("ana", ["predict"], 601)):
        with pytest.raises(InvalidInput):
            issue.issue(parent, user, capabilities, ttl_s)
    with pytest.raises(InvalidInput, match="asks for no tokens"):
        IssueTokens(None, audit).issue(Principal("", frozenset(CAPABILITIES)), "ana", [], 1)
