"""What the documents tell people to type exists: each command and option of ``sealbox`` in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from deploy.cli.main import main
from deploy.cli.man_pages import commands_of
from tests.rehearsal.document import commands

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "deploy/OPERATIONS.md", "docs/operator.md", "docs/user.md")


def _typed(document: str) -> list[str]:
    """Lines of code blocks that begin with ``sealbox``, continued lines joined, comments left out."""
    text = (ROOT / document).read_text().replace("\\\n", " ")
    return [
        re.sub(r"\s#.*", "", line.strip())
        for line in re.findall(r"^(?:    |)(?:runuser -u sealbox -- )?(sealbox [^|\n]*)$", text, re.MULTILINE)
    ]


def _unknown(words: list[str]) -> str:
    """What of a command line does not exist; empty where all does."""
    found: click.Command = main
    options: set[str] = {"--help", "--version"}
    for word in words:
        if isinstance(found, click.Group):
            inner = dict(commands_of(found)).get(word)
            if inner is None:
                return "" if word in options else word
            found = inner
            options = {name for one in found.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
        elif word.startswith("--") and word.partition("=")[0] not in options:
            return word
    return ""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_documents_exist(document: str) -> None:
    typed = _typed(document)
    assert typed
    unknown = {line: said for line in typed if (said := _unknown(shlex.split(line)[1:]))}
    assert not unknown


def test_a_command_that_does_not_exist_is_seen() -> None:
    assert _unknown(["account", "ad", "x"]) == "ad"
    assert _unknown(["account", "add", "x", "--passwort-stdin"]) == "--passwort-stdin"


def test_commands_of_a_document_are_read_with_what_they_read(tmp_path: Path) -> None:
    document = tmp_path / "d.md"
    document.write_text("```text\nno\n```\n```sh\na\ncat > f <<'END'\n[x]\n\nEND\n\nb --c\n```\n")
    assert list(commands(document)) == ["a", "cat > f <<'END'\n[x]\n\nEND", "b --c"]


@pytest.mark.parametrize("text", ["```sh\na\n", "```sh\ncat <<'END'\na\n```\n"])
def test_a_block_that_does_not_end_is_said(tmp_path: Path, text: str) -> None:
    document = tmp_path / "d.md"
    document.write_text(text)
    with pytest.raises(ValueError, match="does not"):
        list(commands(document))
