"""The one error that a user of a search may see."""

from __future__ import annotations


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


def full_stop(text: str) -> str:
    """``text`` as a sentence: stripped, ending with a punctuation mark.

    >>> full_stop("no such model ")
    'no such model.'
    """
    text = " ".join(text.split())
    return text if not text or text[-1] in ".!?" else text + "."
