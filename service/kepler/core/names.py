"""Names of models: full names, versions, aliases, and how short names resolve.

A full name is ``<scope>/<id>``: ``user.<owner>/x`` is private, ``app.<app>/x`` is shared by a Splunk app.
``app:x`` means the caller's app; a bare ``x`` looks in the caller's private scope, then in the app's.
``@7`` names a version, ``@prod`` an alias, ``@latest`` (or nothing) the newest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kepler.core.errors import InvalidInput

PART = re.compile(r"[A-Za-z0-9_.-]{1,100}")
LATEST = "latest"


def check_part(part: str, what: str) -> str:
    """Return ``part`` if it is a legal name part, else raise `InvalidInput` naming ``what``."""
    if not PART.fullmatch(part) or part.strip(".") == "":
        raise InvalidInput(
            f"{what} {part[:120]!r} is not a legal name",
            fix="Use 1 to 100 letters, digits, '_', '.' or '-', and not only dots.",
        )
    return part


@dataclass(frozen=True, slots=True, order=True)
class ModelName:
    """Full name of a model without version.

    >>> str(ModelName("app", "search", "failure"))
    'app.search/failure'
    """

    kind: str  # "user" or "app"
    holder: str  # the owner or the app
    model_id: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.holder}/{self.model_id}"

    @property
    def private(self) -> bool:
        return self.kind == "user"

    @property
    def flat(self) -> str:
        """The name where ``/`` and ``:`` are refused (MLflow): ``app.search~failure``."""
        return f"{self.kind}.{self.holder}~{self.model_id}"

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Parse a full name; also reads the flat form.

        >>> ModelName.parse("app.search/failure")
        ModelName(kind='app', holder='search', model_id='failure')
        """
        scope, slash, model_id = text.replace("~", "/", 1).partition("/")
        kind, dot, holder = scope.partition(".")
        if not slash or not dot or kind not in ("user", "app"):
            raise InvalidInput(
                f"{text[:120]!r} is not a full model name",
                fix="Write it as app.<app>/<name> or user.<owner>/<name>.",
            )
        return cls(kind, check_part(holder, "Scope"), check_part(model_id, "Model"))


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as somebody wrote it: candidates for its full name, and the version or alias asked for.

    ``candidates`` are tried in order. ``selector`` is ``latest``, digits, or an alias.
    """

    candidates: tuple[ModelName, ...]
    selector: str
    text: str

    @property
    def version(self) -> int | None:
        return int(self.selector) if self.selector.isdigit() else None

    @property
    def alias(self) -> str | None:
        return None if self.selector.isdigit() or self.selector == LATEST else self.selector


def parse_ref(text: str, *, user: str, app: str) -> ModelRef:
    """Parse ``text`` as the caller ``user`` in ``app`` means it.

    >>> parse_ref("failure@3", user="ana", app="search").candidates
    (ModelName(kind='user', holder='ana', model_id='failure'), ModelName(kind='app', holder='search', model_id='failure'))
    >>> parse_ref("app:failure@prod", user="ana", app="search").alias
    'prod'
    """
    name, at, selector = text.strip().partition("@")
    if at and not selector:
        raise InvalidInput(
            f"Model {text[:120]!r} names no version after '@'", fix="Write @7, @prod or nothing."
        )
    selector = check_part(selector, "Version or alias") if at else LATEST
    if selector.isdigit():
        selector = str(int(selector))
    candidates: tuple[ModelName, ...]
    if "/" in name:
        candidates = (ModelName.parse(name),)
    elif name.startswith("app:"):
        candidates = (ModelName("app", check_part(app, "App"), check_part(name[4:], "Model")),)
    else:
        model_id = check_part(name, "Model")
        candidates = (
            ModelName("user", check_part(user, "User"), model_id),
            ModelName("app", check_part(app, "App"), model_id),
        )
    return ModelRef(candidates, selector, text.strip())


def parse_new(text: str, *, user: str, app: str) -> ModelName:
    """The full name a new model written as ``text`` gets: bare names are private."""
    ref = parse_ref(text, user=user, app=app)
    if "@" in text:
        raise InvalidInput(
            f"{text[:120]!r} names a version to train into",
            fix="Leave out '@...': a new version is made by itself.",
        )
    return ref.candidates[0]


def check_alias(alias: str) -> str:
    """Return a legal alias name, else raise: not ``latest``, not all digits."""
    check_part(alias, "Alias")
    if alias == LATEST or alias.isdigit():
        raise InvalidInput(
            f"{alias!r} cannot be an alias", cause="It already means a version.", fix="Choose a word."
        )
    return alias
