"""What the documents name is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "deploy/OPERATIONS.md",
    "docs/operator.md",
    "docs/user.md",
    "mailstore/FORMAT.md",
    "backup/FORMAT.md",
]

_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
# A data root has a folder "backup" of its own, so only sources count, and folders that end with a stroke.
_FILE = re.compile(
    r"(?<![\w/])((?:mailstore|protocols|backup|deploy|tests)/[\w./-]*(?:\.(?:py|md|toml|txt|service)|\w/))(?![\w*<{])"
)
_MODULE = re.compile(r"-m (tests\.[\w.]+)")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_only_files_that_are_there(document: str) -> None:
    """Files and folders from the root of the repository, links, and modules that commands run."""
    path = ROOT / document
    text = path.read_text("utf-8")
    missing = [link for link in _LINK.findall(text) if not (path.parent / link).exists()]
    missing += [file for file in _FILE.findall(text) if not (ROOT / file).exists()]
    for module in _MODULE.findall(text):
        place = ROOT / module.replace(".", "/")
        if not place.is_dir() and not place.with_suffix(".py").exists():
            missing.append(module)
    assert not missing


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_these_documents_name_files(document: str) -> None:
    """So that the test above has something to look for."""
    assert len(_FILE.findall((ROOT / document).read_text("utf-8"))) >= 5


def test_modules_in_the_drawings_are_there() -> None:
    """They are named from some folder on, so that the drawings stay narrow."""
    named = set(re.findall(r"[\w/]+\.py\b", (ROOT / "ARCHITECTURE.md").read_text("utf-8")))
    rooms = ("mailstore", "protocols", "backup", "deploy", "tests")
    there = [
        "/" + path.relative_to(ROOT).as_posix() for room in rooms for path in (ROOT / room).rglob("*.py")
    ]
    assert len(named) >= 20
    assert [one for one in named if not any(path.endswith("/" + one) for path in there)] == []


_PROMISE = re.compile(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_promise_has_tests_that_are_there() -> None:
    """The table of SECURITY.md has promises 1 to 16, and every test that it names is a function there."""
    text = (ROOT / "SECURITY.md").read_text("utf-8").partition("## What users are promised")[2]
    rows = {
        int(number): _TEST.findall(tests) for number, tests in _PROMISE.findall(text.partition("\n## ")[0])
    }
    assert list(rows) == list(range(1, 17))
    assert [number for number, tests in rows.items() if not tests] == []
    missing = [
        f"{file}::{name}"
        for tests in rows.values()
        for file, name in tests
        if name not in functions_of(ROOT / file)
    ]
    assert missing == []


def functions_of(file: Path) -> set[str]:
    """The functions at the top of a file."""
    tree = ast.parse(file.read_text("utf-8"))
    return {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


_ITEM = r"(?:\d{1,2}\.|[-*])(?= |$)"
_RUN_TOGETHER = re.compile(rf"[.:;)] +{_ITEM}|^ {{1,3}}{_ITEM}")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_item_of_a_list_begins_a_line(document: str) -> None:
    """Steps that run together in a paragraph are not followed in an emergency."""
    text = (ROOT / document).read_text("utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in prose.splitlines() if not line.startswith(("    ", "|"))]
    assert [line for line in lines if _RUN_TOGETHER.search(line)] == []


def test_items_that_run_together_are_seen() -> None:
    """In the middle, at the end and at the indented beginning of a line."""
    for line in ("the first. 2. The second", "the first. -", "   2. The second", "  - one more", "one: 5."):
        assert _RUN_TOGETHER.search(line)
    for line in ("1. The first", "- one (2 of 3)", "RFC 3501, 6.3. It is", "chapter 3. Two"):
        assert not _RUN_TOGETHER.search(line)


def test_what_broke_others_is_said_where_it_is_tested() -> None:
    """SECURITY.md lists every row, each has a test of its number, and the files it names exist."""
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    broken = text.partition("## What has broken other servers")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d\d) \|.*$", broken, re.MULTILINE)
    assert rows == [f"{number:02d}" for number in range(1, 22)]
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for row in rows:
        assert f"def test_row_{row}_" in tests, row
    for named in re.findall(r"`(tests/[\w/]+(?:\.\w+)?)", text):
        assert (ROOT / named).exists(), named
