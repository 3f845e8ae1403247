"""The worker's log holds where an exception came from and nothing of what it was about."""

import pytest

from kepler.adapters.jobs.stack_log import log_stack


def parse(cell: str) -> float:
    row = [cell]
    return float(row[0])


def fail(how: str) -> BaseException:
    try:
        try:
            parse("canary-4711")
        except ValueError as inner:
            if how == "from":
                raise KeyError("canary-0815") from inner
            if how == "from none":
                raise KeyError("canary-0815") from None
            raise KeyError("canary-0815")  # noqa: B904 - while handling another
    except KeyError as outer:
        return outer


@pytest.mark.parametrize(("how", "links"), [("from", 2), ("while", 2), ("from none", 1)])
def test_stacks_name_files_and_classes_but_no_values(how, links, capsys):
    log_stack(fail(how))
    log = capsys.readouterr().err
    assert "canary" not in log.replace('parse("canary-4711")', "").replace('KeyError("canary-0815")', "")
    assert "builtins.KeyError" in log
    assert "test_stack_log.py" in log
    assert log.count("Traceback") == links
    assert ("in parse" in log) == (links == 2)


def test_a_circle_of_causes_ends(capsys):
    one, other = ValueError("a"), KeyError("b")
    one.__cause__, other.__cause__ = other, one
    log_stack(one)
    assert capsys.readouterr().err.count("Traceback") == 2
