"""The top of the command line: help without imports, errors without tracebacks, docs without gaps."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kepler.adapters.cli import connected, exit_codes, lazy, main
from kepler.core.errors import ALL_ERRORS, InvalidInput, NotFound
from kepler.core.jobs import JobRecord, JobState, Notice


def test_every_error_class_has_an_exit_code() -> None:
    assert set(exit_codes.EXIT_CODES) == set(ALL_ERRORS)
    assert set(exit_codes.EXIT_CODES.values()) <= set(exit_codes.MEANINGS)

    class Odd(NotFound):
        pass

    assert exit_codes.exit_code(Odd("x")) == 3


def test_help_lists_every_command_and_loads_none_of_them() -> None:
    script = (
        "import sys\nfrom kepler.adapters.cli.main import main\ncode = main(['--help'])\n"
        "heavy = {'grpc', 'numpy', 'google', 'pyarrow', 'pydantic', 'kepler.sdk'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    for entry in main.Commands.entries:
        assert f"\n  {entry.name} " in ran.stdout
        assert entry.help in ran.stdout


def test_every_command_loads_and_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for entry in main.Commands.entries:
        assert main.main([entry.name, "--help"]) == 0
        assert f"kepler {entry.name}" in capsys.readouterr().out


def test_a_module_that_is_not_there_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = lazy.Entry("gone", "gone_module", "app", "Not here.")
    monkeypatch.setattr(main.Commands, "entries", (*main.Commands.entries, gone))
    assert main.main(["--help"]) == 0
    assert "Not here." not in capsys.readouterr().out
    assert main.main(["gone"]) == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("kepler 0.")


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["train"], ["models", "--nonsense"], ["jobs", "list", "--limit", "x"]]
)
def test_wrong_usage_is_exit_code_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def raising(error: BaseException) -> Any:
    def app(**_: Any) -> None:
        raise error

    return app


def test_an_error_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "app", raising(NotFound("It is gone", fix="Train it")))
    assert main.main(["models"]) == 3
    assert capsys.readouterr().err == "kepler: It is gone. Train it.\n"
    with pytest.raises(NotFound):
        main.main(["models", "--debug"])


def test_our_own_mistake_is_said_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "app", raising(ZeroDivisionError("oops")))
    assert main.main(["models"]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError: oops" in said
    assert "Traceback" not in said
    with pytest.raises(ZeroDivisionError):
        main.main(["--debug", "models"])


def test_interrupting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "app", raising(KeyboardInterrupt()))
    assert main.main(["models"]) == 130


def test_a_reader_that_went_away() -> None:
    script = "from kepler.adapters.cli.main import run; run()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    with process.stderr as stderr:
        assert b"Traceback" not in stderr.read()
    assert process.wait() == 141


def test_run_takes_the_arguments_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["kepler", "--version"])
    with pytest.raises(SystemExit) as caught:
        main.run()
    assert caught.value.code == 0


def test_parameters() -> None:
    assert connected.key_values(None) == {}
    with pytest.raises(InvalidInput, match="NAME=VALUE"):
        connected.key_values(["x"])


def test_json_has_no_nan_and_no_records() -> None:
    job = JobRecord("j", "train", JobState.RUNNING, "ana", "s", 1.0, metrics=(("m", float("nan")),))
    shown = connected.job_json(job)
    assert (shown["state"], shown["metrics"], shown["failure"]) == ("running", {"m": None}, None)
    assert connected.plain(Notice("info", "x")) == {"level": "info", "text": "x"}


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    connected.print_table(("model", "rows"), [("[bold]m", "3")])
    assert "[bold]m" in capsys.readouterr().out


def test_times_of_things_that_have_not_happened() -> None:
    assert connected.when(0.0) == ""
    assert connected.when(1_760_000_000.0).startswith("2025-10-0")


def tool(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cli_docs", root / "tools" / "make_cli_docs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_and_option_is_documented(root: Path) -> None:
    docs = tool(root)
    page = (root / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    sections = {part.partition("`")[0]: part for part in page.split("### `")[1:]}
    for name, command in docs.commands():
        assert name in sections, f"run tools/make_cli_docs.py: {name} is not documented"
        for option in docs.options(command):
            spelled = f"`{docs.spelled(option)}`"
            assert spelled in sections[name], f"run tools/make_cli_docs.py: {name} lacks {spelled}"
    for code, meaning in exit_codes.MEANINGS.items():
        assert f"| {code} | {meaning} |" in page
