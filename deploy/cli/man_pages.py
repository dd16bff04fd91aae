"""Manual pages, made from the commands' own help: ``python -m deploy.cli.man_pages FOLDER VERSION``.

One page for the program and one for each command, with its subcommands, in man(7).
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from deploy.cli.main import main

SECTION = 8
"""Commands of the system's administrator, man(1)."""

_PROGRAM = "sealbox"
_HYPHEN = re.compile(r"(?<!\\)-")
_FILES = (
    ("/etc/sealbox/sealbox.toml", "the configuration; --config names another file"),
    ("/var/lib/sealbox", "the data; --data names another folder"),
    ("/usr/share/doc/sealbox/OPERATIONS.md", "what to do when something goes wrong"),
)


def commands_of(group: click.Group) -> list[tuple[str, click.Command]]:
    """The commands of a group with their names, in order."""
    context = click.Context(group)
    found = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    return [(name, command) for name, command in found if command is not None]


def pages(version: str) -> dict[str, str]:
    """The pages of this version of the program, by their file names."""
    root = click.Context(main, info_name=_PROGRAM)
    found = {f"{_PROGRAM}.{SECTION}": _page(root, version, _others())}
    for context in _below(main, root):
        found[f"{_PROGRAM}-{context.info_name}.{SECTION}"] = _page(context, version, [_PROGRAM])
    return found


def _others() -> list[str]:
    return [f"{_PROGRAM}-{name}" for name, _ in commands_of(main)]


def _page(context: click.Context, version: str, see_also: list[str]) -> str:
    command = context.command
    title = context.command_path.replace(" ", "-")
    lines = [
        f'.TH "{_text(title.upper())}" {SECTION} "{_day()}" "{_PROGRAM} {version}" "Sealbox"',
        ".SH NAME",
        f"{_text(title)} \\- {_text(_first_sentence(command))}",
        ".SH SYNOPSIS",
        *_synopsis(context),
        ".SH DESCRIPTION",
        *_paragraphs(command.help or ""),
        *_options(context, ".SH OPTIONS"),
    ]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for below in _below(command, context):
            if context.parent is None:
                lines += [".TP", f".B {_text(below.command_path)}", _text(_first_sentence(below.command))]
            else:
                lines += [f'.SS "{_text(below.command_path)}"', *_synopsis(below)]
                lines += [".PP", *_paragraphs(below.command.help or ""), *_options(below, None)]
    lines += [".SH EXIT STATUS", *_paragraphs(main.epilog or ""), ".SH FILES"]
    for path, meaning in _FILES:
        lines += [".TP", f".I {_text(path)}", _text(meaning)]
    *all_but_last, last = see_also
    lines += [".SH SEE ALSO", *(f".BR {_text(one)} ({SECTION})," for one in all_but_last)]
    lines.append(f".BR {_text(last)} ({SECTION})")
    return "\n".join(lines) + "\n"


def _day() -> str:
    """When they are made; reproducible builds say another time (SOURCE_DATE_EPOCH)."""
    made_s = float(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    return datetime.fromtimestamp(made_s, UTC).date().isoformat()


def _below(group: click.Group, context: click.Context) -> Iterator[click.Context]:
    for name, command in commands_of(group):
        yield click.Context(command, parent=context, info_name=name)


def _synopsis(context: click.Context) -> list[str]:
    pieces = " ".join(context.command.collect_usage_pieces(context))
    return [f".B {_text(context.command_path)}", _text(pieces)]


def _options(context: click.Context, heading: str | None) -> list[str]:
    lines: list[str] = []
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            lines += [".TP", f".B {_text(record[0])}", _text(record[1])]
    return [*([heading] if heading and lines else []), *lines]


def _first_sentence(command: click.Command) -> str:
    first = inspect.cleandoc(command.help or "").partition("\n\n")[0].replace("\n", " ")
    return first.removesuffix(".")


def _paragraphs(text: str) -> list[str]:
    """As click shows them: one that begins with a backspace keeps its lines."""
    lines: list[str] = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if lines:
            lines.append(".PP")
        kept = paragraph.startswith("\b\n")
        inside = [_text(line) for line in paragraph.removeprefix("\b\n").split("\n")]
        lines += [".nf", *inside, ".fi"] if kept else inside
    return lines


def _text(text: str) -> str:
    """Text in which nothing has a meaning to the formatter."""
    escaped = _HYPHEN.sub(r"\\-", text.replace("\\", "\\e"))
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped


def write(folder: Path, version: str) -> None:
    """Write all pages. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages(version).items():
        (folder / name).write_text(text, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2])
