"""Names by pattern, where ``*`` stands for any run of characters.

Matching is linear in pattern and name. Patterns come from searches, and a regular expression of many stars
needs time that grows with each of them, while everything else waits for the interpreter.
"""

from __future__ import annotations


def matches(pattern: str, name: str) -> bool:
    """Whether all of ``name`` is what ``pattern`` means.

    >>> matches("SS_*", "SS_a"), matches("*a*b", "xaybz"), matches("a", "a")
    (True, False, True)
    """
    head, *middle = pattern.split("*")
    if not middle:
        return pattern == name
    tail = middle.pop()
    if not name.startswith(head) or len(name) < len(head) + len(tail) or not name.endswith(tail):
        return False
    at, end = len(head), len(name) - len(tail)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
