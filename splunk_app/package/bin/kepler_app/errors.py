"""The one error that a user of a search may see."""

from __future__ import annotations

import re

# Of the command line's other commands (`kepler serve`, `kepler token`, ...) a search knows nothing.
_COMMAND_LINE = re.compile(
    r"`kepler (train|predict|score|summary|models|version|jobs|delete|health)\b([^`]*)`"
)
_INTO = re.compile(r"--into\b")


class SearchError(Exception):
    """Fails the search with one clean sentence.

    Parameters
    ----------
    sentence
        What went wrong, why, and what to do next; shown as it is.
    code
        Class of the error as the service names it ("NotFound", "Unavailable", ...); "InvalidInput" for
        what the command itself refuses.
    retry_after_s
        Seconds to wait before a retry; 0 when a retry does not help.
    """

    def __init__(self, sentence: str, code: str = "InvalidInput", retry_after_s: float = 0.0) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code
        self.retry_after_s = retry_after_s


class SearchCancelled(SystemExit):
    """Splunk ended the search: standard input or output closed, or SIGTERM came. Nobody reads a reply."""


def in_search_words(text: str) -> str:
    """The service's ``text`` with the search commands for those of its command line that have one.

    >>> in_search_words("Train one with `kepler train ... --into m`, or list them with `kepler jobs list`.")
    'Train one with `keplertrain ... into m`, or list them with `keplerjobs list`.'
    """
    return _COMMAND_LINE.sub(lambda match: f"`kepler{match[1]}{_INTO.sub('into', match[2])}`", text)


def full_stop(text: str) -> str:
    """``text`` as a sentence: stripped, ending with a punctuation mark.

    >>> full_stop("no such model ")
    'no such model.'
    """
    text = " ".join(text.split())
    return text if not text or text[-1] in ".!?" else text + "."
