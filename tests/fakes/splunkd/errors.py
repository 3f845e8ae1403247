"""What a search, or a request, can be refused for."""

from __future__ import annotations


class SearchFailed(Exception):
    """The search ends with this banner; `state` of the job becomes FAILED."""

    def __init__(self, text: str, *, level: str = "FATAL") -> None:
        super().__init__(text)
        self.text = text
        self.level = level


class SplSyntaxError(SearchFailed):
    """The search cannot be parsed: splunkd refuses it before a job exists (HTTP 400)."""


class OutsideTheStandIn(SplSyntaxError):
    """Real SPL that this stand-in does not speak. It refuses rather than guesses (DESIGN section 9)."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The splunkd stand-in does not have {what}. Real Splunk may; use what tests/fakes/splunkd "
            "documents, or add it there with its source."
        )
