"""Fail when a Markdown page links to a file of the repository that is not there, or names an unknown make verb."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
_MAKE = re.compile(r"`make ([a-z-]+)(?: [a-z-]+)*`")


def main() -> int:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    bad: list[str] = []
    for name in listed.stdout.split():
        page = ROOT / name
        text = page.read_text()
        bad += [
            f"{name} links to {target}, which is not there"
            for target in _LINK.findall(text)
            if "://" not in target
            and not target.startswith("mailto:")
            and not (page.parent / target).exists()
        ]
        bad += [
            f"{name} names `make {verb}`, which is no verb"
            for verb in _MAKE.findall(text)
            if verb not in verbs
        ]
    sys.stderr.writelines(line + "\n" for line in bad)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
