"""Power cuts: the states in which a disk may be found after one, made from a record of file operations.

The model is that of ALICE (Pillai et al., OSDI 2014), bounded as ACE and CrashMonkey (Mohan et al., OSDI
2018) are. What it lets happen is more than any one file system does:

- Writes to a file are kept for certain once the file has been fsynced (or fdatasynced) afterwards. Until then
  each may be lost alone, in any order between files and within one, be torn at any 512 octets, or leave
  zeros where the file's size is kept and the data is not.
- Creating, renaming, linking and removing names is kept for certain once their folder has been fsynced
  afterwards, a rename once the folder it goes to has. fsync of a new file does *not* promise its name, though
  ext4, XFS and btrfs keep it. Between folders there is no order; within one, any first ones may be kept, and
  each may be lost alone. A single rename or link happens or does not.
- Times: fdatasync need not write them, and a volume mounted with ``lazytime`` does so a day later. So the
  time of a file's last change is kept for certain only together with a change of its size.

States are looked at where they are most: right before a sync takes effect, after something was reported, and
at the end. Of each there are: all and none of what is not certain; the first n of it; each one lost alone;
each one kept alone (a name with those before it in its folder); names without data, data without names, names
with zeros for data; and the last write torn in several ways. Each of these with late times and without. Where
there is more than ``most`` to choose from, as many are taken at equal distances, so every run sees the same.
SEALBOX_EVERY_STATE=1 takes all, and each two lost together.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from file_operations import ROOT, Data, Put, Record, Remove, Resize, Said, Sync, Write

import backup.image
import backup.job
import backup.snapshot
from mailstore import page_journal

SECTOR = 512
EVERY = bool(os.environ.get("SEALBOX_EVERY_STATE"))
"""Nothing is left out, and each two that are lost together are looked at too."""

MOST = 1_000_000 if EVERY else 16
"""How many of one kind of state are looked at for one moment."""

Torn = dict[int, Sequence[Write]]
"""What is left of a write, by its place in the record."""


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes = field(repr=False)
    mtime_ns: int
    settled_ns: int
    """Its time where late times are lost."""


@dataclass(slots=True)
class State:
    """A folder as a power cut has left it."""

    record: Record
    late_times: bool = True
    files: dict[str, int] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    _found: dict[int, _File] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, record: Record, kept: Iterable[int], torn: Torn | None = None) -> State:
        """What is there when of all operations those at the places ``kept`` have reached the disk."""
        state = cls(record)
        places = sorted(kept)
        state._walk(places)
        data: dict[int, list[Data]] = {}
        for place in places:
            one = record.operations[place]
            if isinstance(one, Write | Resize):
                data.setdefault(one.node, []).extend((torn or {}).get(place, (one,)))
        for node in set(state.files.values()):
            state._found[node] = _filled(record, node, data.get(node, []))
        return state

    def _walk(self, places: Sequence[int]) -> None:
        nodes = self.record.nodes
        entries = {at: dict(node.entries) for at, node in enumerate(nodes) if node.entries is not None}
        for place in places:
            match self.record.operations[place]:
                case Put(folder, name, node, left):
                    if left is not None and entries[left[0]].get(left[1]) == node:
                        del entries[left[0]][left[1]]
                    entries[folder][name] = node
                case Remove(folder, name, node) if entries[folder].get(name) == node:
                    del entries[folder][name]
        self._visit(ROOT, "", entries)

    def _visit(self, folder: int, path: str, entries: dict[int, dict[str, int]]) -> None:
        for name, node in entries[folder].items():
            if node in entries:
                self.folders.append(path + name)
                self._visit(node, f"{path}{name}/", entries)
            else:
                self.files[path + name] = node

    def mtime_ns(self, node: int) -> int:
        """When a file was last changed, as the disk knows it."""
        found = self._found[node]
        return found.mtime_ns if self.late_times else found.settled_ns

    def contents(self) -> dict[str, bytes | None]:
        """See ``file_operations.contents``."""
        files = {path: self._found[node].content for path, node in self.files.items()}
        return {**dict.fromkeys(self.folders), **files}

    def digest(self) -> bytes:
        """The same for states in which nothing that matters differs."""
        digest = hashlib.blake2b(repr(sorted(self.folders)).encode())
        for path, node in sorted(self.files.items()):
            content = self._found[node].content
            # The identity of mail.db is what the notes of checkpoints go by.
            time_ns = self.mtime_ns(node) if path.endswith("mail.db") else 0
            digest.update(repr((path, node, len(content), time_ns)).encode())
            digest.update(hashlib.blake2b(content).digest())
        return digest.digest()

    def build(self, root: Path) -> dict[int, int]:
        """Make it a real folder; for each inode there, its number when the record was made."""
        root.mkdir(mode=0o700)
        numbers: dict[int, int] = {}
        first: dict[int, Path] = {}
        for folder in self.folders:
            (root / folder).mkdir(mode=0o700)
        for name, node in self.files.items():
            path = root / name
            if node in first:
                path.hardlink_to(first[node])
                continue
            first[node] = path
            path.write_bytes(self._found[node].content)
            path.chmod(0o600)
            os.utime(path, ns=(self.mtime_ns(node),) * 2)
            numbers[path.stat().st_ino] = self.record.nodes[node].number
        return numbers


def _filled(record: Record, node: int, data: Sequence[Data]) -> _File:
    found = record.nodes[node]
    content = bytearray(found.content)
    mtime_ns = settled_ns = found.mtime_ns
    for one in data:
        size = len(content)
        match one:
            case Write(_, offset, octets):
                content.extend(bytes(max(0, offset - size)))
                content[offset : offset + len(octets)] = octets
            case Resize(_, wanted):
                content = content[:wanted] + bytes(max(0, wanted - size))
        mtime_ns = one.mtime_ns
        if len(content) != size:
            settled_ns = mtime_ns
    return _File(bytes(content), mtime_ns, settled_ns)


@dataclass(frozen=True, slots=True)
class Cut:
    """One state, what had been said by then, and how it came about."""

    state: State = field(repr=False)
    said: bytes = field(repr=False)
    how: str


def cuts(record: Record, most: int = MOST) -> Iterator[Cut]:
    """The states to be looked at, none twice."""
    seen: set[tuple[bytes, bytes]] = set()
    for place, certain, open_ones, said in _moments(record):
        for what, kept, torn in _choices(record, open_ones, most):
            state = State.of(record, [*certain, *kept], torn)
            for late in (True, False):
                one = replace(state, late_times=late)
                mark = one.digest(), said
                if mark not in seen:
                    seen.add(mark)
                    times = "" if late else ", times of before"
                    yield Cut(one, said, f"after operation {place}: {what}{times}")


def _moments(record: Record) -> Iterator[tuple[int, list[int], list[int], bytes]]:
    """Where states are most: how many operations, those certain and those open, and what was said."""
    certain: list[int] = []
    open_ones: list[int] = []
    said = b""
    for place, one in enumerate(record.operations):
        match one:
            case Sync(node):
                yield place, certain, open_ones, said
                settled = [other for other in open_ones if _belongs(record.operations[other], node)]
                certain = [*certain, *settled]
                open_ones = [other for other in open_ones if other not in set(settled)]
            case Said(data):
                said += data
                yield place + 1, certain, open_ones, said
            case _:
                open_ones = [*open_ones, place]
    yield len(record.operations), certain, open_ones, said


def _belongs(one: object, node: int) -> bool:
    return (isinstance(one, Write | Resize) and one.node == node) or (
        isinstance(one, Put | Remove) and one.folder == node
    )


def _choices(
    record: Record, open_ones: list[int], most: int
) -> Iterator[tuple[str, Collection[int], Torn | None]]:
    yield "all of it kept", open_ones, None
    yield "nothing kept that need not be", (), None
    picked = _spread(open_ones, most)
    for place in picked:
        yield f"lost from {_told(record, place)} on", [one for one in open_ones if one < place], None
        yield f"lost only {_told(record, place)}", [one for one in open_ones if one != place], None
        yield f"kept only {_told(record, place)}", _with_names_before(record, open_ones, place), None
    for pair in combinations(open_ones if EVERY else (), 2):
        yield f"lost only {pair}", [one for one in open_ones if one not in pair], None
    names = [one for one in open_ones if isinstance(record.operations[one], Put | Remove)]
    data = [one for one in open_ones if one not in set(names)]
    yield "names without data", names, None
    yield "data without names", data, None
    writes = [one for one in data if isinstance(record.operations[one], Write)]
    yield "zeros for data", open_ones, {one: (_zeros(record.operations[one]),) for one in writes}
    for place in writes[-1:]:
        for what, left in _tears(record.operations[place]):
            yield f"torn ({what}) {_told(record, place)}", open_ones, {place: left}


def _spread(places: list[int], most: int) -> list[int]:
    """At most ``most`` of the places, at equal distances, first and last with them."""
    if len(places) <= most:
        return places
    return [places[round(number * (len(places) - 1) / (most - 1))] for number in range(most)]


def _with_names_before(record: Record, open_ones: list[int], place: int) -> list[int]:
    one = record.operations[place]
    if not isinstance(one, Put | Remove):
        return [place]
    return [
        other
        for other in open_ones
        if other <= place and isinstance(same := record.operations[other], Put | Remove)
        and same.folder == one.folder
    ]  # fmt: skip


def _zeros(one: Any) -> Write:
    return replace(one, data=bytes(len(one.data)))


def _tears(one: Any) -> Iterator[tuple[str, Sequence[Write]]]:
    """What may be left of a write of which some sectors have reached the disk."""
    seams = [seam for seam in range(-one.offset % SECTOR, len(one.data), SECTOR) if seam]
    for seam in sorted({seams[0], seams[len(seams) // 2], seams[-1]}) if seams else ():
        begin, end = replace(one, data=one.data[:seam]), replace(
            one, offset=one.offset + seam, data=one.data[seam:]
        )  # fmt: skip
        yield f"first {seam} octets", (begin,)
        yield f"without the first {seam} octets", (end,)


def _told(record: Record, place: int) -> str:
    match record.operations[place]:
        case Put(_, name, _, left):
            return f"{place}, {'rename' if left else 'create'} {name}"
        case Remove(_, name, _):
            return f"{place}, remove {name}"
        case Write() | Resize() as one:
            names = _names_of(record, one.node)
            return f"{place}, {type(one).__name__.lower()} {names}"
        case _:
            return str(place)


def _names_of(record: Record, node: int) -> str:
    found = [one.name for one in record.operations if isinstance(one, Put) and one.node == node]
    for other in record.nodes:
        found += [name for name, number in (other.entries or {}).items() if number == node]
    return "/".join(dict.fromkeys(found))


@contextmanager
def recorded_numbers(numbers: dict[int, int]) -> Iterator[None]:
    """Inside, files have the inode numbers that they had when the record was made, as after a real cut."""
    modules: list[Any] = [page_journal, backup.image, backup.snapshot, backup.job]
    real = page_journal.identity

    def identity(path: Path) -> page_journal.FileIdentity | None:
        found = real(path)
        return None if found is None else replace(found, inode=numbers.get(found.inode, found.inode))

    for module in modules:
        module.identity = identity
    try:
        yield
    finally:
        for module in modules:
            module.identity = real


def each_cut(record: Record, place: Path, check: Callable[[Path, bytes], None], most: int = MOST) -> int:
    """Build every state of a record and have it checked; how many there were. A failure keeps its files."""
    number = 0
    for number, cut in enumerate(cuts(record, most), 1):
        root = place / f"cut{number}"
        numbers = cut.state.build(root)
        try:
            with recorded_numbers(numbers):
                check(root, cut.said)
        except Exception as error:
            raise AssertionError(f"power cut {number}, {cut.how}") from error
        shutil.rmtree(root)
    return number
