"""What is said when a model, version or alias is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kepler.core.errors import Conflict, KeplerError, NotFound, nearest


def no_model(text: str, known: Sequence[str] = ()) -> KeplerError:
    """``known`` are names the caller may see; the nearest are named."""
    close = nearest(text, list(known))
    cause = (
        f"The nearest are {', '.join(close)}"
        if len(close) > 1
        else f"The nearest is {close[0]}"
        if close
        else ""
    )
    return NotFound(
        f'There is no model "{text}"',
        cause=cause,
        fix="List the models with `kepler models`, or train one with `kepler train`.",
    )


def no_version(text: str, version: int, newest: int) -> KeplerError:
    return NotFound(
        f'Model "{text}" has no version {version}; the newest is {newest}',
        fix="Use version=latest, or train one with `kepler train`.",
    )


def no_alias(text: str, alias: str, aliases: Mapping[str, int]) -> KeplerError:
    known = ", ".join(f"{key} (version {aliases[key]})" for key in sorted(aliases))
    return NotFound(
        f'Model "{text}" has no alias "{alias}"',
        cause=f"It has {known}" if known else "It has none",
        fix="Set it with `kepler version`, or use version=latest.",
    )


def nothing_before(text: str, alias: str, version: int) -> KeplerError:
    return Conflict(
        f'Alias "{alias}" of model "{text}" has no earlier version to go back to',
        cause=f"It has only pointed at version {version}, or the versions before it are deleted",
        fix="Point it at a version with `kepler version`.",
    )


def still_aliased(text: str, version: int, aliases: Sequence[str]) -> KeplerError:
    plural = len(aliases) > 1
    named = ", ".join(f'"{alias}"' for alias in sorted(aliases))
    return Conflict(
        f'Version {version} of model "{text}" cannot be deleted',
        cause=f"{'Aliases' if plural else 'Alias'} {named} {'point' if plural else 'points'} at it",
        fix=f"Move or delete the {'aliases' if plural else 'alias'} first with `kepler version`.",
    )
