"""Plays the transcripts beside Debian's Dovecot (package dovecot-imapd) and prints every difference.

    .venv/bin/python -m tests.transcripts.beside_dovecot [--list] [TRANSCRIPT ...]

A transcript is named without ``.txt``; none means all. Shown are, for each command that Dovecot answers
otherwise, what our transcript says (``ours``) and what Dovecot said instead (``theirs``), in the canonical
form of ``meaning.py``. ``--list`` prints the commands as DIFFERENCES.md lists them. Dovecot runs as a
process of its own with its data in a temporary folder, on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.transcripts.beside import Beside
from tests.transcripts.dovecot_world import DovecotServer, DovecotWorld, is_installed

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.txt"))
AT_ONCE = 4
EXPLAINED = FOLDER / "DIFFERENCES.md"
_COMMANDS = re.compile(r"^- `(\w+)`:((?: [\w.]+)+)$", re.MULTILINE)
_NOT_PLAYED = re.compile(r"^- `(\w+)` from `@([^`]+)`: (.+)\.$", re.MULTILINE)
_ABSENT = re.compile(r"^Not advertised by Dovecot: (.+)\.$", re.MULTILINE)


def play_all(folder: Path, files: Iterable[Path] = FILES) -> Iterator[tuple[Path, Beside]]:
    """Every transcript, played beside a Dovecot that keeps its data in ``folder``; some at the same time."""
    server = DovecotServer(folder, FILES)

    def play(path: Path) -> tuple[Path, Beside]:
        with DovecotWorld(server, path.stem) as world:
            played = Beside(path, world)
            played.play()
        return path, played

    try:
        # Playing is mostly waiting, for what may come unasked.
        with ThreadPoolExecutor(AT_ONCE) as players:
            yield from players.map(play, files)
    finally:
        server.stop()


def explained() -> set[tuple[str, str]]:
    """The commands that DIFFERENCES.md lists: transcript and tag."""
    text = EXPLAINED.read_text(encoding="utf-8")
    return {(name, tag) for name, tags in _COMMANDS.findall(text) for tag in tags.split()}


def not_played() -> dict[str, tuple[str, str]]:
    """What DIFFERENCES.md says cannot be played: by transcript the action from which on, and why."""
    text = EXPLAINED.read_text(encoding="utf-8")
    return {name: (action, reason) for name, action, reason in _NOT_PLAYED.findall(text)}


def absent() -> set[str]:
    """The capabilities that DIFFERENCES.md says Dovecot does not have."""
    text = EXPLAINED.read_text(encoding="utf-8")
    return {name.strip("`") for names in _ABSENT.findall(text) for name in names.split(", ")}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--list", action="store_true", help="only list transcripts and commands")
    parser.add_argument("names", nargs="*", metavar="TRANSCRIPT")
    options = parser.parse_args()
    if not is_installed():
        sys.exit("there is no Dovecot here: apt install dovecot-imapd")
    files = [path for path in FILES if not options.names or path.stem in options.names]
    with tempfile.TemporaryDirectory(prefix="sealbox-dovecot-") as scratch:
        Path(scratch).chmod(0o755)
        for path, played in play_all(Path(scratch) / "dovecot", files):
            if options.list:
                tags = list(dict.fromkeys(one.tag for one in played.differences))
                print(f"- `{path.stem}`: {' '.join(tags)}" if tags else f"  {path.stem}: no difference")
                continue
            for one in played.differences:
                print(one)
            if played.left_out is not None:
                step, reason = played.left_out
                print(f"{path.name}:{step.number}: not played from @{step.text} on: {reason}")


if __name__ == "__main__":
    main()
