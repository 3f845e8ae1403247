"""The models in memory: which serve, which score beside them, and who watches."""

from __future__ import annotations

from collections.abc import Mapping

from kepler_edge.errors import Refused
from kepler_edge.gates import Watch
from kepler_edge.keys import Trust
from kepler_edge.model import LoadedModel
from kepler_edge.slots import FACTORY, Slots, check_files


class LiveModels:
    """Swapped as whole mappings, so that those who score never wait for a lock.

    Attributes
    ----------
    serving, shadows
        Models by name; a new object after each change.
    watches
        By release, for those in shadow or probation.
    """

    def __init__(self, slots: Slots, trust: Trust) -> None:
        self._slots = slots
        self._trust = trust
        self.serving: Mapping[str, LoadedModel] = {}
        self.shadows: Mapping[str, LoadedModel] = {}
        self.watches: dict[str, Watch] = {}
        self._before: dict[str, LoadedModel] = {}  # what serves again when a probation ends badly

    def open(self, model: str, slot: str) -> LoadedModel:
        """The model in a slot, checked. Raises `Refused`, `InvalidInput` or `OSError`."""
        folder = self._slots.folder(model, slot)
        if slot == FACTORY:
            return LoadedModel.load(folder, self._trust)
        release = self._slots.held(model, slot)
        if release is None:
            raise Refused("The slot has lost its release")
        check_files(folder, release)
        return LoadedModel.load(
            folder,
            self._trust,
            release=release.id,
            thresholds=release.thresholds,
            windows=release.windows,
            bindings=release.bindings,
        )

    def put(self, name: str, model: LoadedModel | None) -> None:
        """Let ``model`` serve, or none."""
        others = {other: found for other, found in self.serving.items() if other != name}
        self.serving = others if model is None else {**others, name: model}

    def shadow(self, model: LoadedModel) -> None:
        """Let ``model`` score beside the one that serves."""
        self.watches[model.release] = Watch(model)
        self.shadows = {**self.shadows, model.name: model}

    def probation(self, model: LoadedModel) -> None:
        """The swap: readings that come from now on are scored by ``model``, under watch."""
        before = self.serving.get(model.name)
        if before is not None:
            self._before[model.name] = before
            if self.shadows.get(model.name) is not model:
                model.adopt(before)
        self.watches[model.release] = Watch(model)
        self.put(model.name, model)
        self._drop_shadow(model.release)

    def keep(self, model: LoadedModel) -> None:
        """The probation is over."""
        self.watches.pop(model.release, None)
        self._before.pop(model.name, None)

    def undo(self, release: str, name: str) -> bool:
        """Take a release's model out; False when what serves now must be loaded from the disk."""
        self.watches.pop(release, None)
        self._drop_shadow(release)
        serves = self.serving.get(name)
        if serves is None or serves.release != release:
            return True
        before = self._before.pop(name, None)
        if before is not None:
            before.adopt(serves)
        self.put(name, before)
        return before is not None

    def _drop_shadow(self, release: str) -> None:
        self.shadows = {name: model for name, model in self.shadows.items() if model.release != release}
