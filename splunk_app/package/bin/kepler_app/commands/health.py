"""``keplerhealth``: one row per check between this search head and the service, each with the next step."""

from __future__ import annotations

from kepler_app.generating import GeneratingCommand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COLUMNS = ["check", "status", "detail", "next_step"]


class KeplerHealth(GeneratingCommand):
    """Never fails for what it finds: a broken part is a row."""

    name = "keplerhealth"

    def table(self) -> tuple[list[str], list[list[str]]]:
        from kepler_app.checks import run_checks

        return COLUMNS, [list(row) for row in run_checks(self._settings, self.info)]

    def _settings(self) -> Any:
        from kepler_app import settings

        return settings.load(self.info)
