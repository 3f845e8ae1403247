"""From package to version: what is checked, where it goes, and what is on record."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.model_store import InMemoryModelStore
from fakes.service_parts import MemoryAudit
from kepler.adapters.formats.safe import SafeModelFormats
from kepler.adapters.storage import version_folder
from kepler.adapters.storage.package_files import PackageFiles
from kepler.core.errors import Conflict, Denied, InvalidInput, KeplerError, NotFound
from kepler.core.golden import GoldenVectors
from kepler.core.manifest import Manifest, Origin
from kepler.core.training import SearchContext, TrainOutcome, TrainSpec
from kepler.ports.security import CAPABILITIES, Principal
from kepler.serving.loader import FolderModelLoader
from kepler.usecases.identity import caller_of
from kepler.usecases.manage import ManageModels
from kepler.usecases.packages import Imported, MovePackages
from support.packages import Maker, trusting, zipped

ANA = caller_of(
    Principal("ana", frozenset(CAPABILITIES) - {"admin"}, "t1"), user="", app="search", search=SearchContext()
)


class House:
    """A home without a registry of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.maker = Maker()
        trust = trusting(self.maker)
        self.files = PackageFiles(root / "imports", self.maker.signer, trust)
        self.models = InMemoryModelStore()
        self.audit = MemoryAudit()
        loader = FolderModelLoader(
            SafeModelFormats(), lambda folder: version_folder.verify_folder(folder, trust)
        )
        manage = ManageModels(self.models, self.audit)
        self.moves = MovePackages(manage, self.models, self.files, loader, self.audit)
        self.made = 0

    def package(self, **changes: object) -> bytes:
        self.made += 1
        return zipped(self.maker.members(self.root / f"made-{self.made}", **changes))

    def take(self, package: bytes, into: str = "") -> Imported:
        coming = self.moves.open(ANA, into)
        try:
            coming.write(package)
            return coming.finish(len(package), hashlib.sha256(package).hexdigest())
        except KeplerError:
            coming.close()
            assert list(self.files.root.iterdir()) == []
            raise


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_package_becomes_the_next_version_and_says_where_it_came_from(house: House) -> None:
    package = house.package()
    first, second = house.take(package), house.take(package)
    assert (first.version.full_name, second.version.full_name) == ("app.search/line@1", "app.search/line@2")
    draft = Manifest.from_json((Path(second.version.folder) / "manifest.json").read_bytes())
    signed = Manifest.from_json((house.root / "made-1" / "manifest.json").read_bytes())
    assert draft.origin == second.origin
    assert draft.origin == Origin("app.search/line", 1, signed.digest, house.maker.signer.key_id)
    assert (draft.name, draft.version, draft.files, draft.owner) == ("", 0, {}, "ana")
    assert (second.version.owner, second.version.rows, second.version.algorithm) == (
        "ana", 200, "LinearRegression",
    )  # fmt: skip
    what = f"app.search/line from app.search/line@1 signed by {house.maker.signer.key_id}"
    assert house.audit.records[-2:] == [
        ("ana", "version.import", what, "begun"),
        ("ana", "version.import", what, "done"),
    ]


@pytest.mark.parametrize(
    ("into", "carried", "becomes"),
    [
        ("", "app.plant/pump", "app.plant/pump@1"),
        ("", "user.bob/pump", "user.ana/pump@1"),
        ("pump", "app.plant/x", "user.ana/pump@1"),
        ("app:pump", "app.plant/x", "app.search/pump@1"),
        ("app.other/pump", "user.bob/x", "app.other/pump@1"),
    ],
)
def test_where_it_goes(house: House, into: str, carried: str, becomes: str) -> None:
    taken = house.take(house.package(name=carried, version=7), into)
    assert (taken.version.full_name, taken.origin.full_name) == (becomes, f"{carried}@7")


def test_names_are_checked_before_anything_is_sent(house: House) -> None:
    with pytest.raises(NotFound, match="may see"):
        house.moves.open(ANA, "user.bob/m")
    with pytest.raises(InvalidInput, match="names a version"):
        house.moves.open(ANA, "m@3")
    assert not house.files.root.exists()


def test_what_is_refused_is_on_record_and_leaves_nothing(house: House, tmp_path: Path) -> None:
    with pytest.raises(Denied):
        house.take(zipped(Maker().members(tmp_path / "stranger")))
    with pytest.raises(InvalidInput):
        house.take(b"no zip")
    assert [record[1:] for record in house.audit.records] == [
        ("version.import", house.audit.records[0][2], "refused"),
        ("version.import", f"sha256:{hashlib.sha256(b'no zip').hexdigest()}", "refused"),
    ]
    assert house.models.list_models(everything=True) == []


def test_other_answers_than_recorded_are_refused_though_signed(house: House, tmp_path: Path) -> None:
    honest = house.maker.version(tmp_path / "honest")
    wrong = {"value": tuple((cell + 1.0,) for (cell,) in honest.golden.outputs["value"] if cell is not None)}
    with pytest.raises(Conflict, match="does not give the answers"):
        house.take(house.package(golden=replace(honest.golden, outputs=wrong)))
    damaged = house.package(files={"model.onnx": b"\0" * 250})
    with pytest.raises(InvalidInput):
        house.take(damaged)
    assert isinstance(honest.golden, GoldenVectors)
    assert house.models.list_models(everything=True) == []


def test_an_export_is_on_record_and_only_of_what_the_caller_sees(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    house.maker.version(folder, name="user.ana/m", version=1)
    house.models.register(
        TrainSpec("j", "LinearRegression", ("a",), ("a",), model="user.ana/m", owner="ana"),
        TrainOutcome(),
        folder,
    )
    package = house.moves.export(ANA, "m")
    content = b"".join(package.chunks())
    assert (package.size, package.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (package.version.full_name, package.key_id) == ("user.ana/m@1", house.maker.signer.key_id)
    package.close()
    assert house.audit.records == [("ana", "version.export", "user.ana/m@1", "sent")]
    assert house.take(content).version.full_name == "user.ana/m@2"
    bob = replace(ANA, user="bob")
    with pytest.raises(NotFound):
        house.moves.export(bob, "user.ana/m")


def test_an_export_that_cannot_be_recorded_is_not_sent(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.maker.version(tmp_path / "mine", name="user.ana/m", version=1)
    spec = TrainSpec("j", "LinearRegression", ("a",), ("a",), model="user.ana/m", owner="ana")
    house.models.register(spec, TrainOutcome(), tmp_path / "mine")

    def full(**_: object) -> None:
        raise Conflict("The audit log takes nothing")

    monkeypatch.setattr(house.audit, "append", full)
    for _ in range(5):  # nor does it hold a place
        with pytest.raises(Conflict, match="audit log"):
            house.moves.export(ANA, "m")
