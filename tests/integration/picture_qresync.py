"""A client with QRESYNC (RFC 7162): told by VANISHED, and back later without reading all again."""

from __future__ import annotations

import re
from collections.abc import Iterator

from picture import Client, Seen

_VANISHED = re.compile(rb"\* VANISHED (\(EARLIER\) )?([0-9:,]+)\Z")
_CODE = re.compile(rb"\[(UIDVALIDITY|HIGHESTMODSEQ) (\d+)\]")


def _numbers(uid_set: bytes) -> Iterator[int]:
    for part in uid_set.split(b","):
        first, _, last = part.partition(b":")
        yield from range(int(first), int(last or first) + 1)


class QresyncClient(Client):
    """See the module's docstring."""

    _validity = 0
    _modseq = 0
    resyncs = 0

    def hear(self, response: bytes) -> None:
        """VANISHED takes messages away by UID; EXPUNGE may not come any more (section 3.2.10)."""
        assert not response.endswith(b" EXPUNGE"), "EXPUNGE to a client that has enabled QRESYNC"
        found = _VANISHED.match(response)
        if found is None:
            super().hear(response)
            return
        assert not found[1], "EARLIER is for SELECT and FETCH that ask for it"
        for uid in _numbers(found[2]):
            place = self._place(uid)
            assert place is not None, "VANISHED of a message the client does not have"
            del self.messages[place]

    def _place(self, uid: int) -> int | None:
        """Where a UID is, or the gap it fits in when EXISTS told of it and nothing more is known."""
        fits = None
        for number, one in enumerate(self.messages):
            if one.uid == uid:
                return number
            if one.uid is None:
                fits = number
            elif one.uid < uid:
                fits = None
            else:
                break
        return fits

    def select(self) -> None:
        """Begin anew the first time; later come back with what is known."""
        if not self._validity:
            self.command(b"ENABLE QRESYNC")
            self._remember(self.command(b"SELECT " + self.mailbox).untagged)
            self.look()
            return
        self.look()
        known = {one.uid: one.flags for one in self.messages if one.uid is not None}
        self.command(b"UNSELECT")
        tag = self.wire.tag()
        uids = b",".join(b"%d" % uid for uid in known) or b"1"
        self.wire.send(
            tag + b" SELECT %s (QRESYNC (%d %d %s))\r\n" % (self.mailbox, self._validity, self._modseq, uids)
        )
        answer = self.wire.until(tag + b" ")
        assert answer.status == b"OK", answer.tagged
        # What changes while SELECT is answered is told behind the answer, as to any session.
        plain = [n for n, one in enumerate(answer.untagged) if (v := _VANISHED.match(one)) and not v[1]]
        end = plain[0] if plain else len(answer.untagged)
        self._come_back(answer.untagged[:end], known)
        for response in answer.untagged[end:]:
            self.hear(response)
        self._remember(answer.untagged)
        self.resyncs += 1
        self.look()

    def _come_back(self, untagged: tuple[bytes, ...], known: dict[int, frozenset[bytes] | None]) -> None:
        """Earlier expunges first, then what changed; together it has to be the whole mailbox."""
        count = 0
        fetched: list[bytes] = []
        for response in untagged:
            found = _VANISHED.match(response)
            if found is not None:
                assert found[1], "only EARLIER is right while selecting"
                for uid in _numbers(found[2]):
                    known.pop(uid, None)
            elif response.endswith(b" EXISTS"):
                count = int(response.split()[1])
            elif b" FETCH (" in response:
                fetched.append(response)
        self.messages = [Seen() for _ in range(count)]
        for response in fetched:
            super().hear(response)
        for one in self.messages:
            if one.uid is not None:
                known[one.uid] = one.flags
        # What came later than the UIDs that were named is not reported (RFC 7162 section 3.2.5.2).
        assert len(known) <= count, "the client was not told of all expunges"
        for one, (uid, flags) in zip(self.messages, sorted(known.items()), strict=False):
            assert one.uid in (None, uid), "UIDs and sequence numbers go together"
            one.uid, one.flags = uid, flags

    def _remember(self, untagged: tuple[bytes, ...]) -> None:
        codes = {found[1]: int(found[2]) for one in untagged for found in [_CODE.search(one)] if found}
        self._validity, self._modseq = codes[b"UIDVALIDITY"], codes[b"HIGHESTMODSEQ"]
