"""What the program says about itself: help, manual pages, completion."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from deploy.cli import man_pages
from deploy.cli.completion import SHELLS
from deploy.cli.main import main
from deploy.cli.man_pages import commands_of

_EFFECT = re.compile(
    r"\b(no|nobody else's|living|the|all|its|any|new|sample|your)?\s?"
    r"(mail|messages?)\b(?! (server|program|transfer))",
    re.IGNORECASE,
)


def commands(group: click.Group = main, path: str = "sealbox") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with what is typed for it."""
    for name, command in commands_of(group):
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


ALL = dict(commands())


@pytest.mark.parametrize("path", ALL)
def test_every_command_says_what_it_does_to_the_mail(path: str) -> None:
    """Its help has to: an operator who is afraid of losing mail runs nothing."""
    assert _EFFECT.search(ALL[path].help or ""), path


def test_lists_of_commands_cut_no_sentence() -> None:
    """Neither in help nor in what shells show; each begins as the command's own help does."""
    below = [one for _, one in commands_of(main) if isinstance(one, click.Group)]
    for group in (main, *below):
        listed = CliRunner().invoke(group, ["--help"]).output.partition("Commands:")[2]
        words = " ".join(listed.split())
        for name, command in commands_of(group):
            short = command.get_short_help_str()
            assert short and "..." not in short
            assert f"{name} {short}" in words
            assert " ".join((command.help or "").split()).startswith(short)


@pytest.mark.parametrize("path", ALL)
def test_every_option_is_explained(path: str) -> None:
    """A name alone is no help."""
    assert [one.opts for one in ALL[path].params if isinstance(one, click.Option) and not one.help] == []


def test_the_manual_has_every_command_and_option() -> None:
    """A page for each command, on which its subcommands are, too."""
    made = man_pages.pages("1.0")
    assert set(made) == {"sealbox.8", *(f"sealbox-{name}.8" for name, _ in commands_of(main))}
    for path, command in ALL.items():
        text = made[f"sealbox-{path.split()[1]}.8"].replace("\\-", "-")
        assert f".B {path}\n" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0] in text
        assert f".B sealbox {path.split()[1]}" in made["sealbox.8"].replace("\\-", "-")


@pytest.mark.parametrize(
    "checker", [["mandoc", "-Tlint", "-Wwarning"], ["groff", "-man", "-ww", "-z", "-Tutf8"]]
)
def test_the_pages_are_well_formed(checker: list[str], tmp_path: Path) -> None:
    """As far as those that read such pages can tell."""
    if shutil.which(checker[0]) is None:
        pytest.skip(f"{checker[0]} is not installed")
    man_pages.write(tmp_path, "1.0")
    done = subprocess.run(
        [*checker, *sorted(tmp_path.iterdir())], capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_text_is_never_taken_for_a_request() -> None:
    """A line that begins with a dot, a backslash, a hyphen that has to stay one when it is copied."""
    assert man_pages._text(".bashrc") == "\\&.bashrc"
    assert man_pages._text("'quoted'") == "\\&'quoted'"
    assert man_pages._text("a\\b --c") == "a\\eb \\-\\-c"


def test_pages_have_the_day_that_the_builder_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two builds of one version are the same."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert '"1970-01-01"' in man_pages.pages("1.0")["sealbox.8"].splitlines()[0]


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_printed(shell: str) -> None:
    """A script that asks this program by the variable that it listens to."""
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0
    assert f"_SEALBOX_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=done.stdout.encode(), capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, b"")


def test_completion_finds_commands_and_options() -> None:
    """What the script of bash does when Tab is pressed."""

    def completed(words: str, at: int) -> list[str]:
        environment = {"_SEALBOX_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        code = "from deploy.cli.main import main; main(prog_name='sealbox')"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **environment},
            capture_output=True,
            check=False,
            timeout=60,
        )
        return done.stdout.decode().split()

    assert completed("sealbox acc", 1) == ["plain,account"]
    assert completed("sealbox account vacuum --pass", 3) == ["plain,--password-stdin"]


def test_a_server_does_not_load_what_other_commands_need() -> None:
    """What it imports before it forks its workers stays in the memory of all of them."""
    code = (
        "import sys; from click import Context; from deploy.cli.main import main; "
        "main.get_command(Context(main), 'serve'); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    loaded = set(done.stdout.decode().split())
    assert "deploy.supervisor" in loaded
    assert not loaded & {"rich", "jinja2", "tqdm", "segno", "dns", "h11", "boto3", "deploy.cli.restore"}
    # At its import it takes the sockets of systemd, which the server itself has to find.
    assert "twisted.internet.endpoints" not in loaded
