"""A client with QRESYNC (RFC 7162): told by VANISHED, and back later without reading all again."""

from __future__ import annotations

import re

from imap_wire import Answer
from picture_actions import Client
from picture_search import numbers

_VANISHED = re.compile(rb"\* VANISHED (\(EARLIER\) )?([0-9:,]+)\Z")
_VALIDITY = re.compile(rb"\[UIDVALIDITY (\d+)\]")
_MODSEQ = re.compile(rb"\[HIGHESTMODSEQ (\d+)\]")

Known = dict[int, frozenset[bytes] | None]


class QresyncClient(Client):
    """See the module's docstring."""

    _validity = 0
    _modseq = 0
    _earlier = False
    """Whether the command that runs has asked for VANISHED (EARLIER)."""

    def begin(self) -> None:
        """QRESYNC is enabled on every connection."""
        self.command(self.revision.enabling(b"QRESYNC"))
        self.learn_names()

    def act(self) -> None:
        """Like any client, and now and then catch up or come back."""
        chance = self.rng.random()
        if chance < 0.03:
            self.reconnect()
        elif chance < 0.06:
            self.catch_up()
        super().act()

    def hear(self, response: bytes) -> None:
        """VANISHED takes messages away by UID; EXPUNGE may not come any more (section 3.2.10)."""
        assert not response.endswith(b" EXPUNGE"), "EXPUNGE to a client that has enabled QRESYNC"
        found = _VANISHED.match(response)
        if found is None:
            super().hear(response)
            return
        assert self._earlier or not found[1], "EARLIER is for SELECT and FETCH that ask for it"
        for uid in numbers(found[2]):
            if found[1]:
                # It does not lower the number of messages, so it cannot tell of one that counts.
                assert all(one.uid != uid for one in self.messages), "EARLIER of a message that counts"
                continue
            place = self._place(uid)
            assert place is not None, "VANISHED of a message the client does not have"
            del self.messages[place]

    def check(self, answer: Answer, name: bytes, allowed: tuple[bytes, ...] = ()) -> None:
        """HIGHESTMODSEQ at the end of a command: nothing up to there is still to be told (section 3.2.8)."""
        super().check(answer, name, allowed)
        found = _MODSEQ.search(answer.tagged)
        if found is not None:
            assert int(found[1]) >= self._modseq, "modification sequences do not fall"
            self._modseq = int(found[1])
            self.done[b"told to be up to date"] += 1

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

    # -- coming back -----------------------------------------------------------------------------

    def _known(self) -> Known:
        """The messages up to the first one whose UID the client has not heard."""
        known: Known = {}
        for one in self.messages:
            if one.uid is None:
                break
            known[one.uid] = one.flags
        return known

    def select(self) -> None:
        """Begin anew the first time; later leave the mailbox and come back with what is known."""
        if not self._validity:
            self.open_mailbox(bytes, self._heard_first)
            self.look()
            return
        self.look()
        known = self._known()
        self.command(b"UNSELECT")
        self._select_again(known)
        self.done[b"QRESYNC"] += 1

    def reconnect(self) -> None:
        """Hang up without a word, and go on over a connection that any worker may have accepted."""
        known = self._known()
        self.wire.close()
        self.wire = self.connect()
        self.begin()
        self._select_again(known)
        self.done[b"reconnect with QRESYNC"] += 1

    def _heard_first(self, answer: Answer) -> None:
        for response in answer.untagged:
            self.hear(response)
        self._remember(answer)

    def _select_again(self, known: Known) -> None:
        self.open_mailbox(lambda: self._parameters(known), lambda answer: self._come_back(answer, known))
        self.look()

    def _parameters(self, known: Known) -> bytes:
        """Known UIDs and pairs of numbers and UIDs may be named or not (section 3.2.5)."""
        text = b"%d %d" % (self._validity, self._modseq)
        chance = self.rng.random()
        if known and chance < 0.7:
            text += b" " + b",".join(b"%d" % uid for uid in known)
            if chance < 0.3:
                pairs = sorted(self.rng.sample(list(enumerate(known, 1)), min(len(known), 5)))
                text += b" (%s %s)" % (
                    b",".join(b"%d" % number for number, _ in pairs),
                    b",".join(b"%d" % uid for _, uid in pairs),
                )
        return b" (QRESYNC (%s))" % text

    def _come_back(self, answer: Answer, known: Known) -> None:
        """What changed meanwhile, told by SELECT; what changes while it is answered comes behind."""
        plain = [n for n, one in enumerate(answer.untagged) if (v := _VANISHED.match(one)) and not v[1]]
        end = plain[0] if plain else len(answer.untagged)
        self._resync(answer.untagged[:end], dict(known))
        for response in answer.untagged[end:]:
            self.hear(response)
        self._remember(answer)

    def _resync(self, untagged: tuple[bytes, ...], known: Known) -> None:
        """Earlier expunges first, then what changed; together it has to be the whole mailbox."""
        self.messages = []
        for response in untagged:
            found = _VANISHED.match(response)
            if found is None:
                super().hear(response)
                continue
            for uid in numbers(found[2]):
                known.pop(uid, None)
        # What came later than what is known is not always reported (RFC 7162 section 3.2.5.2).
        assert len(known) <= len(self.messages), "the client was not told of all expunges"
        for one, (uid, flags) in zip(self.messages, known.items(), strict=False):
            assert one.uid in (None, uid), "UIDs and sequence numbers go together"
            one.uid = uid
            one.flags = flags if one.flags is None else one.flags

    def _remember(self, answer: Answer) -> None:
        text = b"\n".join(answer.untagged)
        validity, modseq = _VALIDITY.search(text), _MODSEQ.search(text)
        assert validity is not None and modseq is not None
        assert not self._validity or int(validity[1]) == self._validity, "UIDVALIDITY stays"
        self._validity, self._modseq = int(validity[1]), int(modseq[1])

    def catch_up(self) -> None:
        """FETCH of what changed since the client was last up to date, with what is gone (section 3.2.6)."""
        self._earlier = True
        self.command(
            b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE %d VANISHED)" % self._modseq, name=b"FETCH VANISHED"
        )
        self._earlier = False
