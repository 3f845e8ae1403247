"""Sealing and verifying a version's folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.model_store import make_spec, write_draft
from fakes.signer import FakeSigner
from kepler.adapters.storage import version_folder as folders
from kepler.core.errors import Conflict, InvalidInput, NotFound
from kepler.core.manifest import FileEntry, Manifest
from kepler.core.names import ModelName

PUMP = ModelName("app", "search", "pump")
FULL = "app.search/pump@3"


def complete(folder: Path, **changes: object) -> Manifest:
    options: dict[str, object] = {"name": PUMP, "version": 3, "files": folders.measure(folder)} | changes
    return folders.draft_manifest(folder).completed(**options)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = write_draft(tmp_path / "j1", make_spec("j1"), b"weights")
    (folder / "edge").mkdir()
    (folder / "edge" / "windows.json").write_text("{}")
    folders.seal(folder, complete(folder), FakeSigner())
    return folder


def test_what_was_sealed_verifies(sealed: Path) -> None:
    manifest = folders.verify_folder(sealed, FakeSigner(), FULL)
    assert f"{manifest.name}@{manifest.version}" == FULL
    assert set(manifest.files) == {"model.onnx", "edge/windows.json"}
    assert manifest.files["model.onnx"].size == len(b"weights")
    assert folders.read_manifest(sealed, FakeSigner()) == manifest


def test_sealing_again_writes_the_same_bytes(sealed: Path) -> None:
    before = (sealed / "manifest.json").read_bytes(), (sealed / "manifest.sig").read_bytes()
    manifest = folders.verify_folder(sealed, FakeSigner())
    folders.seal(sealed, manifest, FakeSigner())
    assert ((sealed / "manifest.json").read_bytes(), (sealed / "manifest.sig").read_bytes()) == before


def flip(path: Path, at: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def swap_for_link(path: Path) -> None:
    kept = path.rename(path.parent.parent / "kept")
    path.symlink_to(kept)


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda folder: flip(folder / "model.onnx"), "'model.onnx' has another SHA-256"),
        (lambda folder: (folder / "model.onnx").write_bytes(b"weight"), "has 6 bytes instead of 7"),
        (lambda folder: (folder / "model.onnx").unlink(), "'model.onnx' is missing"),
        (lambda folder: (folder / "extra.txt").write_text("x"), "'extra.txt' is not in the manifest"),
        (lambda folder: (folder / "edge" / "more.py").write_text("x"), "'edge/more.py' is not in the manifest"),
        (lambda folder: flip(folder / "manifest.json", 5), "signature does not hold"),
        (lambda folder: flip(folder / "manifest.sig"), "signature does not hold"),
        (lambda folder: (folder / "manifest.sig").write_bytes(b""), "signature does not hold"),
        (lambda folder: swap_for_link(folder / "model.onnx"), "is a link"),
        (lambda folder: swap_for_link(folder / "manifest.json"), "no plain file"),
        (lambda folder: os.mkfifo(folder / "pipe"), "is a link or no plain file"),
        (lambda folder: (folder / "od d").write_text("x"), "not a legal file name"),
        (lambda folder: (folder / ".hidden").write_text("x"), "not a legal file name"),
    ],
)  # fmt: skip
def test_any_damage_is_found_before_anything_is_parsed(
    sealed: Path, damage: Callable[[Path], object], cause: str
) -> None:
    damage(sealed)
    with pytest.raises(Conflict, match=cause) as found:
        folders.verify_folder(sealed, FakeSigner(), FULL)
    assert found.value.fix


def test_every_single_bit_of_a_small_model_counts(sealed: Path) -> None:
    for at in range(len(b"weights")):
        flip(sealed / "model.onnx", at)
        with pytest.raises(Conflict):
            folders.verify_folder(sealed, FakeSigner())
        flip(sealed / "model.onnx", at)
    folders.verify_folder(sealed, FakeSigner())


def test_another_key_does_not_verify(sealed: Path) -> None:
    with pytest.raises(Conflict, match="signature"):
        folders.verify_folder(sealed, FakeSigner("other"))


def test_a_signed_version_in_the_place_of_another_is_refused(sealed: Path) -> None:
    with pytest.raises(Conflict, match=r"It holds app\.search/pump@3 in the place of app\.search/pump@4"):
        folders.verify_folder(sealed, FakeSigner(), "app.search/pump@4")


@pytest.mark.parametrize("missing", ["manifest.json", "manifest.sig"])
def test_a_folder_without_manifest_or_signature_is_not_there(sealed: Path, missing: str) -> None:
    (sealed / missing).unlink()
    with pytest.raises(NotFound, match=missing):
        folders.verify_folder(sealed, FakeSigner(), FULL)


def test_a_folder_that_is_gone_or_a_link_is_refused(sealed: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        folders.verify_folder(tmp_path / "none", FakeSigner(), FULL)
    (tmp_path / "link").symlink_to(sealed)
    with pytest.raises(Conflict, match="It is a link"):
        folders.verify_folder(tmp_path / "link", FakeSigner(), FULL)


@pytest.mark.parametrize(
    "path",
    [
        "../out",
        "/etc/passwd",
        "a/../b",
        "a//b",
        "a\\b",
        "%2e%2e/x",
        "file:///x",
        "",
        "manifest.sig",
        "..",
        ".",
    ],
)
def test_a_signed_manifest_cannot_name_a_file_outside_its_folder(sealed: Path, path: str) -> None:
    manifest = folders.verify_folder(sealed, FakeSigner())
    files = {**manifest.files, path: FileEntry("0" * 64, 1)}
    folders.seal(sealed, manifest.completed(name=PUMP, version=3, files=files), FakeSigner())
    with pytest.raises(Conflict, match="which is no file of a version"):
        folders.verify_folder(sealed, FakeSigner())


def test_a_huge_manifest_is_not_read(sealed: Path) -> None:
    os.truncate(sealed / "manifest.json", folders.MAX_MANIFEST_BYTES + 1)
    with pytest.raises(Conflict, match="sensible size"):
        folders.verify_folder(sealed, FakeSigner())


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_FILES", 3)
    for number in range(4):
        (tmp_path / f"f{number}").touch()
    with pytest.raises(InvalidInput, match="3 files and no more"):
        folders.measure(tmp_path)


def test_a_draft_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="has no manifest"):
        folders.draft_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InvalidInput, match="not valid JSON"):
        folders.draft_manifest(tmp_path)


def test_adopting_moves_once_and_keeps_what_is_there(tmp_path: Path) -> None:
    draft, home = write_draft(tmp_path / "draft", make_spec("j1")), tmp_path / "models" / "x" / "j1"
    folders.adopt(draft, home)
    assert not draft.exists()
    folders.adopt(draft, home)
    folders.adopt(write_draft(tmp_path / "again", make_spec("j1"), b"other"), home)
    assert (home / "model.onnx").read_bytes() == b"a model"
    assert not (tmp_path / "again").exists()
    with pytest.raises(NotFound, match="gone before it was registered"):
        folders.adopt(tmp_path / "none", tmp_path / "models" / "x" / "j2")


def test_adopting_from_another_file_system_copies_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft, home = write_draft(tmp_path / "draft", make_spec("j1")), tmp_path / "models" / "x" / "j1"
    rename = Path.rename

    def across(self: Path, target: Path) -> Path:
        if self == draft:
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", across)
    stale = home.parent / ".j1.partial"
    stale.mkdir(parents=True)
    (stale / "half").touch()
    folders.adopt(draft, home)
    assert {path.name for path in home.iterdir()} == {"manifest.json", "model.onnx"}
    assert not draft.exists()
    assert not stale.exists()


def test_removing_can_be_repeated(sealed: Path) -> None:
    folders.remove(sealed)
    assert not sealed.exists()
    folders.remove(sealed)
    assert list(sealed.parent.glob(".*")) == []
