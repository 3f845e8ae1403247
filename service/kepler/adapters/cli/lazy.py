"""Commands whose modules load when they run, so that ``kepler --help`` is quick."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
import typer.core
import typer.main


@dataclass(frozen=True, slots=True)
class Entry:
    """A command of the table: its module here, what it is there, and its line in the help.

    ``attribute`` names a `typer.Typer` (a group, or a command alone) or a function (a command).
    """

    name: str
    module: str
    attribute: str
    help: str

    @property
    def path(self) -> str:
        return f"kepler.adapters.cli.{self.module}"

    @property
    def present(self) -> bool:
        return importlib.util.find_spec(self.path) is not None

    def load(self) -> Any:
        """The command itself, imported now."""
        found = getattr(importlib.import_module(self.path), self.attribute)
        if not isinstance(found, typer.Typer):
            app = typer.Typer(rich_markup_mode=None)
            app.command(self.name)(found)
            found = app
        found.rich_markup_mode = None  # square brackets in our help are meant as such
        found.pretty_exceptions_enable = False
        found._add_completion = False  # the top of the command line has it
        command = typer.main.get_command(found)
        command.name = self.name
        return command


class LazyCommand(typer.core.TyperCommand):
    """Stands for a command in the help of its group; becomes the command when it is called."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(name=entry.name, help=entry.help, short_help=entry.help, rich_markup_mode=None)
        self._entry = entry

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        return self._entry.load().make_context(info_name, args, parent=parent, **extra)


class LazyGroup(typer.core.TyperGroup):
    """The top of the command line. ``entries`` is its table."""

    entries: ClassVar[tuple[Entry, ...]] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        return [entry.name for entry in self.entries if entry.present]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        for entry in self.entries:
            if entry.name == cmd_name and entry.present:
                return LazyCommand(entry)
        return None
