"""Commands that make rows of their own: models, jobs, versions, health."""

from __future__ import annotations

from kepler_app.chunks import Reply
from kepler_app.lexer import Arguments, parse
from kepler_app.rows import table_body
from kepler_app.session import ServiceCommand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class GeneratingCommand(ServiceCommand):
    """Answers its first execute with one table; reporting, so that rows are results and not events."""

    changes_state = False  # such a command does nothing for a preview

    def __init__(self) -> None:
        super().__init__()
        self.arguments = Arguments([], {})

    def getinfo(self, metadata: dict[str, Any]) -> dict[str, Any]:
        info = self.plan(metadata)
        self.arguments = parse(info.raw_args)
        self.read_arguments()
        return {"type": "reporting", "generating": True}

    def execute(self, body: bytes, finished: bool) -> Reply:
        if self.info.preview and self.changes_state:
            return Reply(finished=True)
        columns, rows = self.table()
        return Reply([table_body(columns, rows)], finished=True)

    def read_arguments(self) -> None:
        """Check the arguments while the search is planned; raises `SearchError`."""
        self.arguments.refuse_rest(self.name, ())

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows."""
        return [], []
