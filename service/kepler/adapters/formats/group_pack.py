"""One version with a model per group (``by``): a list, the groups' own models in one file, shared arrays.

``groups.json`` is the list (`kepler.core.group_table`). ``members.bin`` holds one entry per group that has a
model of its own: the length of a header, the header (JSON) and the files that `ModelFormats.save` wrote.
``packed.npy`` holds the arrays of `kepler.core.packed`: a header the same way, then one array after the
other in NumPy's own format, read without pickle. A member is read alone, its hash and its recorded answers
checked, when the first row of its group comes.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kepler.adapters.formats.onnx_scorer import OnnxScorer
from kepler.core.algorithms import Fitted, Matrix
from kepler.core.checked_json import canonical, parse_object
from kepler.core.errors import Conflict, InvalidInput
from kepler.core.golden import GoldenVectors
from kepler.core.group_table import GROUP_LIST, GroupTable, Place
from kepler.core.packed import ARRAYS, Packed, PackedModels
from kepler.core.packed_trees import ARRAYS as TREE_ARRAYS
from kepler.core.packed_trees import KINDS as TREE_KINDS
from kepler.core.packed_trees import PackedTrees
from kepler.core.preparation import Preparation
from kepler.ports.formats import GroupMember, ModelFormats, SavedModel, Scorer

TABLE, MEMBERS, PACKED = GROUP_LIST, "members.bin", "packed.npy"
GOLDEN_ROWS = 2  # of each group: enough to notice weights that changed
_LENGTH = 8
_BLOCK_ROWS = 50_000
_MAX_HEADER = 64 * 2**20


class PackWriter:
    """Implements `kepler.ports.formats.GroupPackWriter`."""

    def __init__(self, folder: Path, formats: ModelFormats) -> None:
        self._folder = folder
        self._formats = formats
        self._file: BinaryIO | None = None
        self._offset = 0
        self._scratch: Path | None = None

    def add(
        self, fitted: Fitted, x: Matrix, preparation: Preparation, columns: tuple[int, ...] = ()
    ) -> tuple[Place, SavedModel]:
        """Save ``fitted`` like a model of its own, then move its files into the pack."""
        scratch = (
            self._scratch
        )  # one for all groups: making and removing folders costs more than a small model
        if scratch is None:
            scratch = self._scratch = Path(tempfile.mkdtemp(prefix="groups-", dir=self._folder.parent))
        saved = self._formats.save(fitted, x, scratch)
        contents = [(scratch / name).read_bytes() for name in saved.files]
        for name in saved.files:
            (scratch / name).unlink()
        inputs = np.ascontiguousarray(x[:GOLDEN_ROWS], dtype=saved.dtype)
        header = {
            "model": saved.to_json(),
            "preparation": preparation.to_json(),
            "golden": GoldenVectors.of(inputs, fitted.score(inputs)).to_json(),
            "columns": list(columns),
            "sizes": [len(content) for content in contents],
        }
        entry = _with_header(header) + b"".join(contents)
        if self._file is None:
            self._file = (self._folder / MEMBERS).open("wb")
        self._file.write(entry)
        place = Place(self._offset, len(entry), hashlib.sha256(entry).hexdigest())
        self._offset += len(entry)
        return place, saved

    def close(self, table: GroupTable, packed: Packed | None) -> tuple[str, ...]:
        files = [TABLE]
        (self._folder / TABLE).write_bytes(table.to_bytes())
        if self._file is not None:
            files.append(MEMBERS)
        self.abandon()
        if packed is not None:
            files.append(PACKED)
            _write_packed(self._folder / PACKED, packed)
        return tuple(files)

    def abandon(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


class Pack:
    """Implements `kepler.ports.formats.GroupPack`. Hashes of whole files were checked before."""

    def __init__(self, folder: Path, formats: ModelFormats, threads: int) -> None:
        self._folder = folder
        self._formats = formats
        self._threads = threads
        self.table = GroupTable.from_bytes(_small(folder / TABLE))
        self.packed = _read_packed(folder / PACKED) if (folder / PACKED).is_file() else None
        arrays = self.packed.size_bytes if self.packed else 0
        self.size_bytes = arrays + 2 * (folder / TABLE).stat().st_size

    def member(self, group: int) -> tuple[GroupMember, Scorer]:
        place = self.table.places[group]
        with (self._folder / MEMBERS).open("rb") as file:
            file.seek(place.offset)
            entry = file.read(place.size)
        if hashlib.sha256(entry).hexdigest() != place.sha256:
            raise Conflict(
                "The model of a group is not as it was signed",
                cause=f"Bytes {place.offset} to {place.offset + place.size} of {MEMBERS} changed",
                fix="Restore the version's folder from a backup, or train the model again.",
            )
        root, at = _header(entry, "Model of a group")
        member = GroupMember(
            Preparation.from_json(root.section("preparation")),
            SavedModel.from_json(root.section("model")),
            GoldenVectors.from_json(root.section("golden")),
            tuple(int(item) for item in root.numbers("columns")),
        )
        sizes = [int(item) for item in root.numbers("sizes")]
        root.done()
        contents: dict[str, bytes] = {}
        for name, size in zip(member.model.files, sizes, strict=True):
            contents[name] = entry[at : at + size]
            at += size
        scorer = self._open(member.model, contents)
        difference = member.golden.difference(scorer.score(member.golden.matrix(member.model.dtype)))
        if not difference <= member.golden.tolerance:
            raise Conflict(
                "The model of a group does not give the answers it gave when it was trained",
                cause=f"Its recorded answers differ by {difference:.3g}: the libraries changed",
                fix="Use an earlier version, or train it again.",
            )
        return member, scorer

    def _open(self, saved: SavedModel, contents: dict[str, bytes]) -> Scorer:
        if saved.format == "onnx" and len(saved.files) == 1:
            # With a bound on the rows of a run the scorer keeps one session and no second form of a forest
            # beside it: with thousands of small models memory counts more than the last bit of speed.
            block_rows = int(saved.extra.get("block_rows", _BLOCK_ROWS))
            return OnnxScorer(
                contents[saved.files[0]], dtype=saved.dtype, threads=self._threads, block_rows=block_rows
            )
        with tempfile.TemporaryDirectory(prefix="kepler-group-") as folder:
            for name, content in contents.items():
                (Path(folder) / name).write_bytes(content)
            return self._formats.load(saved, Path(folder), threads=self._threads)


def _with_header(header: dict[str, Any]) -> bytes:
    text = canonical(header)
    return len(text).to_bytes(_LENGTH, "little") + text


def _header(content: bytes, what: str) -> tuple[Any, int]:
    size = int.from_bytes(content[:_LENGTH], "little")
    if size > min(_MAX_HEADER, len(content) - _LENGTH):
        raise InvalidInput(f"{what} has no header")
    return parse_object(content[_LENGTH : _LENGTH + size].decode(), what), _LENGTH + size


def _small(path: Path) -> bytes:
    if not path.is_file() or path.stat().st_size > _MAX_HEADER:
        raise InvalidInput(f"{path.name} is missing or larger than {_MAX_HEADER} bytes")
    return path.read_bytes()


def _write_packed(path: Path, packed: Packed) -> None:
    with path.open("wb") as file:
        file.write(_with_header({"kind": packed.kind, "preparation": packed.preparation.to_json()}))
        for name in packed.arrays:
            np.lib.format.write_array(file, getattr(packed, name), allow_pickle=False)


def _read_packed(path: Path) -> Packed:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(_LENGTH), "little")
        if size > _MAX_HEADER:
            raise InvalidInput(f"{path.name} has no header")
        root = parse_object(file.read(size).decode(), path.name)
        kind = root.text("kind")
        preparation = Preparation.from_json(root.section("preparation"))
        root.done()
        names = TREE_ARRAYS if kind in TREE_KINDS else ARRAYS
        try:
            arrays = {name: np.lib.format.read_array(file, allow_pickle=False) for name in names}
        except (ValueError, OSError) as error:
            raise InvalidInput(f"{path.name} cannot be read", cause=type(error).__name__) from error
    made = PackedTrees if kind in TREE_KINDS else PackedModels
    packed = made(kind, preparation, **arrays)
    packed.check()
    return packed
