"""A tree of Maildirs as a user of mbsync or offlineimap works on it: moves, flags and deletes files."""

from __future__ import annotations

import re
from pathlib import Path

_SUBJECT = re.compile(rb"day message ([0-9]+)")


class Maildirs:
    """Folders below ``root``, addressed by message number."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made = 0

    def names(self) -> set[str]:
        """Every Maildir, relative to the root."""
        return {path.parent.relative_to(self.root).as_posix() for path in self.root.glob("**/cur")}

    def create(self, name: str) -> None:
        """A new, empty Maildir."""
        for part in ("cur", "new", "tmp"):
            (self.root / name / part).mkdir(parents=True)

    def _files(self, name: str) -> dict[int, Path]:
        found = {}
        for part in ("cur", "new"):
            for path in (self.root / name / part).iterdir():
                subject = _SUBJECT.search(path.read_bytes())
                found[int(subject[1]) if subject else 0] = path
        return found

    def flags(self, name: str) -> dict[int, str]:
        """Messages with their Maildir flags."""
        return {number: path.name.partition(":2,")[2] for number, path in sorted(self._files(name).items())}

    def shows(self, marked: int, gone: int) -> tuple[str | None, bool]:
        """The flags of one message of the INBOX, and whether the other is there."""
        flags = self.flags("INBOX")
        return flags.get(marked), gone in flags

    def mark(self, name: str, number: int, flag: str) -> None:
        """Add one flag, which moves the file to ``cur`` as Maildir wants it."""
        path = self._files(name)[number]
        base, _, flags = path.name.partition(":2,")
        path.rename(self.root / name / "cur" / f"{base}:2,{''.join(sorted({*flags, flag}))}")

    def move(self, name: str, number: int, target: str) -> None:
        """Put a file into another Maildir, as a mail reader does: under a new name."""
        path = self._files(name)[number]
        path.rename(self._fresh(target, path))

    def copy(self, name: str, number: int, target: str) -> None:
        """Write the message into another Maildir as well."""
        path = self._files(name)[number]
        self._fresh(target, path).write_bytes(path.read_bytes())

    def _fresh(self, target: str, path: Path) -> Path:
        self._made += 1
        flags = path.name.partition(":2,")[2]
        return self.root / target / "cur" / f"1795200000.M{self._made}.moved:2,{flags}"

    def remove(self, name: str) -> None:
        """Delete every message of a Maildir for good."""
        for path in self._files(name).values():
            path.unlink()
