"""Packages out and in: the same bytes each time, and nothing but what was signed comes in."""

from __future__ import annotations

import hashlib
import resource
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.model_store import InMemoryModelStore
from kepler.adapters.storage import package_files, package_zip
from kepler.adapters.storage.package_files import IncomingFile, PackageFiles
from kepler.core.errors import Conflict, Denied, InvalidInput, KeplerError, NotFound, Overloaded, Unavailable
from kepler.core.names import ModelName
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.ports.packages import Unpacked
from support.packages import Maker, trusting, zipped

Members = dict[str, bytes]


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def files(tmp_path: Path, maker: Maker) -> PackageFiles:
    return PackageFiles(tmp_path / "imports", maker.signer, trusting(maker))


@pytest.fixture
def members(tmp_path: Path, maker: Maker) -> Members:
    return maker.members(tmp_path / "members", files={"extra/notes.txt": b"n" * 100})


def take(files: PackageFiles, package: bytes) -> tuple[IncomingFile, Unpacked]:
    incoming = files.receive()
    try:
        incoming.write(package)
        return incoming, incoming.unpack(len(package), hashlib.sha256(package).hexdigest())
    except BaseException:
        incoming.close()
        raise


def refused(files: PackageFiles, package: bytes) -> KeplerError:
    """The error, once nothing of the package is left."""
    with pytest.raises(KeplerError) as caught:
        take(files, package)
    assert list(files.root.iterdir()) == []
    return caught.value


def test_what_is_packed_comes_out_again(files: PackageFiles, maker: Maker, tmp_path: Path) -> None:
    folder = tmp_path / "version"
    manifest = maker.version(folder, files={"extra/notes.txt": b"n" * 100})
    full_name = f"{manifest.name}@{manifest.version}"
    packed = []
    for _ in range(2):
        outgoing = files.pack(folder, full_name)
        packed.append(b"".join(outgoing.chunks()))
        assert (outgoing.size, outgoing.sha256) == (len(packed[0]), hashlib.sha256(packed[0]).hexdigest())
        assert outgoing.key_id == maker.signer.key_id
        outgoing.close()
        outgoing.close()
    assert packed[0] == packed[1]
    incoming, unpacked = take(files, packed[0])
    assert (unpacked.manifest, unpacked.key_id) == (manifest, maker.signer.key_id)
    assert sorted(p.name for p in unpacked.folder.rglob("*") if p.is_file()) == [
        "manifest.json", "manifest.sig", "model.onnx", "notes.txt",
    ]  # fmt: skip
    incoming.close()
    incoming.close()
    assert list(files.root.iterdir()) == []


def test_a_version_that_was_changed_is_not_packed(files: PackageFiles, maker: Maker, tmp_path: Path) -> None:
    manifest = maker.version(tmp_path / "version")
    (tmp_path / "version" / "model.onnx").write_bytes(b"other")
    with pytest.raises(Conflict, match="not as it was signed"):
        files.pack(tmp_path / "version", f"{manifest.name}@{manifest.version}")


def test_what_packs_too_well_is_stored_so_that_it_can_be_imported(
    files: PackageFiles, maker: Maker, tmp_path: Path
) -> None:
    manifest = maker.version(tmp_path / "version", files={"zeros": bytes(3 << 20)})
    outgoing = files.pack(tmp_path / "version", f"{manifest.name}@{manifest.version}")
    assert outgoing.size > 3 << 20
    incoming = files.receive()
    for chunk in outgoing.chunks():
        incoming.write(chunk)
    assert incoming.unpack(outgoing.size, outgoing.sha256).manifest == manifest
    incoming.close()
    outgoing.close()


def _entry(name: str, mode: int = 0, compression: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = compression
    return info


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (_entry("../x"), "no file of a version"),
        (_entry("/etc/x"), "no file of a version"),
        (_entry("a/../../x"), "no file of a version"),
        (_entry("a\\..\\x"), "no file of a version"),
        (_entry("C:x"), "no file of a version"),
        (_entry(".hidden"), "no file of a version"),
        (_entry("folder/"), "no file of a version"),
        (_entry("model.onnx"), "in it twice"),
        (_entry("model.onnx/x"), "lies in a file"),
        (_entry("link", stat.S_IFLNK | 0o777), "a link or no plain file"),
        (_entry("fifo", stat.S_IFIFO | 0o600), "a link or no plain file"),
        (_entry("packed", compression=zipfile.ZIP_BZIP2), "packed in a way that is not taken"),
    ],
    ids=lambda value: value.filename if isinstance(value, zipfile.ZipInfo) else "",
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_no_version_has(
    files: PackageFiles, members: Members, entry: zipfile.ZipInfo, said: str
) -> None:
    error = refused(files, zipped([*members.items(), (entry, b"x")]))
    assert isinstance(error, InvalidInput)
    assert error.message == "This is no .kepler package of a model version"
    assert said in error.cause


def test_bombs_and_too_many_files(
    files: PackageFiles, members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "200 times its size" in refused(files, zipped({**members, "zeros": bytes(8 << 20)})).cause
    many = zipped({**members, **{f"f{number}": b"" for number in range(10_001)}})
    assert "more than 10,000 files" in refused(files, many).cause
    monkeypatch.setattr(package_zip, "MAX_BYTES", 1000)
    assert "unpacks to more than" in refused(files, zipped(members)).cause


def _cut(package: bytes) -> bytes:
    return package[: len(package) // 2]


def _damaged(package: bytes) -> bytes:
    """One byte of the last file's content flipped, where only its checksum tells."""
    at = package.index(b"notes.txt") + len(b"notes.txt") + 2
    return package[:at] + bytes([package[at] ^ 0xFF]) + package[at + 1 :]


def _encrypted(package: bytes) -> bytes:
    at = package.rindex(b"PK\1\2") + 8
    return package[:at] + struct.pack("<H", 1) + package[at + 2 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda package: b"",
        lambda package: b"PK",
        lambda package: b"x" * 100,
        lambda package: package + b"x",
        lambda package: b"x" + package,
        _cut,
        _damaged,
        _encrypted,
        lambda package: package[:-2] + b"\1\0" + b"c",
        lambda package: package[:-12] + b"\xff\xff" + package[-10:],
    ],
)
def test_bytes_that_are_no_such_zip(
    files: PackageFiles, members: Members, spoil: Callable[[bytes], bytes]
) -> None:
    error = refused(files, spoil(zipped(members)))
    assert isinstance(error, InvalidInput)
    assert error.message == "This is no .kepler package of a model version"


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda m: m.pop("manifest.json"), InvalidInput, "has no manifest.json"),
        (lambda m: m.pop("manifest.sig"), InvalidInput, "has no manifest.sig"),
        (lambda m: m.update({"manifest.sig": b"s" * 64}), Denied, "never added, or it was changed since"),
        (lambda m: m.update({"manifest.sig": b"s" * 65}), InvalidInput, "has no manifest.sig"),
        (lambda m: m.update({"manifest.json": b"{}"}), Denied, "never added, or it was changed since"),
        (lambda m: m.pop("model.onnx"), Conflict, "'model.onnx' is missing"),
        (lambda m: m.update(surprise=b""), Conflict, "'surprise' is not in the manifest"),
        (lambda m: m.update({"extra/notes.txt": b"n" * 99}), Conflict, "has 99 bytes instead of 100"),
        (lambda m: m.update({"extra/notes.txt": b"m" * 100}), Conflict, "has another content"),
    ],
)
def test_content_that_was_not_signed(
    files: PackageFiles,
    members: Members,
    change: Callable[[Members], object],
    kind: type[KeplerError],
    said: str,
) -> None:
    change(members)
    error = refused(files, zipped(members))
    assert type(error) is kind
    assert said in error.cause


def test_a_stranger_and_a_draft(files: PackageFiles, maker: Maker, tmp_path: Path) -> None:
    stranger = refused(files, zipped(Maker().members(tmp_path / "stranger")))
    assert isinstance(stranger, Denied)
    assert "kepler version trust FILE" in stranger.fix
    assert "is a draft" in refused(files, zipped(maker.members(tmp_path / "draft", name="", version=0))).cause


def test_sizes_and_digests_of_the_way(
    files: PackageFiles, members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = zipped(members)
    incoming = files.receive()
    incoming.write(package)
    with pytest.raises(InvalidInput, match="did not come as it was sent"):
        incoming.unpack(len(package), "0" * 64)
    incoming.close()
    incoming = files.receive()
    with pytest.raises(InvalidInput, match="more than"):
        incoming.write(bytes((1 << 20) + 1))
    monkeypatch.setattr(package_files, "MAX_BYTES", 10)
    with pytest.raises(Overloaded, match="larger than"):
        incoming.write(b"x" * 11)
    incoming.close()


def test_no_more_than_four_at_once_and_none_on_a_full_disk(
    files: PackageFiles, maker: Maker, tmp_path: Path
) -> None:
    held = [files.receive() for _ in range(4)]
    with pytest.raises(Overloaded, match="on their way already"):
        files.receive()
    held.pop().close()
    held.append(files.receive())
    for incoming in held:
        incoming.close()
    full = PackageFiles(tmp_path / "full", maker.signer, trusting(maker), min_free_bytes=2**62)
    incoming = full.receive()
    with pytest.raises(Overloaded, match="no room"):
        incoming.write(b"x")
    incoming.close()
    manifest = maker.version(tmp_path / "version")
    for _ in range(5):  # a refusal holds no place
        with pytest.raises(Overloaded, match="no room"):
            full.pack(tmp_path / "version", f"{manifest.name}@{manifest.version}")


def test_a_restart_removes_what_was_left_unfinished(
    files: PackageFiles, maker: Maker, members: Members, tmp_path: Path
) -> None:
    name = ModelName("app", "search", "line")
    store = InMemoryModelStore()
    half, unfinished, whole = (take(files, zipped(members)) for _ in range(3))
    moved: list[Path] = []
    for incoming, unpacked in (unfinished, whole):
        draft = incoming.draft(unpacked.manifest, name)
        assert not (draft / "manifest.sig").exists()
        moved.append(tmp_path / "models" / incoming.id)
        moved[-1].parent.mkdir(exist_ok=True)
        draft.rename(moved[-1])
    spec = TrainSpec(whole[0].id, "LinearRegression", ("a",), ("a",), model=str(name))
    store.register(spec, TrainOutcome(), moved[1])

    again = PackageFiles(files.root, maker.signer, trusting(maker))
    fresh = again.receive()
    again.sweep(store.list_versions, lambda name, job_id: tmp_path / "models" / job_id)
    assert [path.exists() for path in moved] == [False, True]
    assert [path.name for path in files.root.iterdir()] == [fresh.id]
    fresh.close()

    take(again, zipped(members))[0].draft(half[1].manifest, name)
    lost = PackageFiles(files.root, maker.signer, trusting(maker))

    def gone(name: ModelName) -> list[object]:
        raise NotFound(f"There is no model {name}")

    lost.sweep(gone, lambda name, job_id: tmp_path / "models" / job_id)  # type: ignore[arg-type]
    assert list(files.root.iterdir()) == []


def test_a_disk_that_takes_no_more(files: PackageFiles) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    incoming = files.receive()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(Unavailable, match="cannot be read or written"):
            incoming.write(bytes(1 << 20))
        incoming.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(files.root.iterdir()) == []


def test_no_damaged_byte_passes(files: PackageFiles, maker: Maker, tmp_path: Path) -> None:
    """Every ninth byte: refused in our own words, or of no consequence, such as the zip's dates."""
    package = zipped(maker.members(tmp_path / "version"))
    expected = take(files, package)
    harmless = 0
    places = range(0, len(package), 9)
    for at in places:
        spoiled = package[:at] + bytes([package[at] ^ (1 << at % 8)]) + package[at + 1 :]
        try:
            incoming, unpacked = take(files, spoiled)
        except KeplerError:
            continue
        harmless += 1
        assert unpacked.manifest == expected[1].manifest
        assert (unpacked.folder / "model.onnx").read_bytes() == (
            expected[1].folder / "model.onnx"
        ).read_bytes()
        incoming.close()
    assert harmless < len(places) / 5
