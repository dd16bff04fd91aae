"""Another IMAP server as the source: what it says is understood, and its whims are put up with."""

from __future__ import annotations

import imaplib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfer_world import TransferWorld

from mailstore.model import Flags, SpecialUse, SystemFlag
from mailstore.transfer import imap_source
from mailstore.transfer.imap_client import ATTEMPTS, ImapClient, TooLong, _StartTls, _Tls, imap_place
from mailstore.transfer.imap_responses import (
    Facts,
    Malformed,
    facts_of,
    fetched,
    listed,
    namespace_prefix,
    responses,
    tokens,
)
from mailstore.transfer.imap_source import ImapSource, ImapWishes
from mailstore.transfer.importing import Choice
from mailstore.transfer.source import Reason, SourceUnavailable, SourceUnusable

MIB = 1024 * 1024
WISHES = ImapWishes(MIB)


class Server:
    """Mailboxes as ``imaplib`` would show them; ``trouble`` is what happens instead of the next answers."""

    def __init__(self, mailboxes):
        self.mailboxes = mailboxes
        self.listed = [b'(\\HasNoChildren) "/" "%s"' % name for name in mailboxes]
        self.trouble = []
        self.said = []
        self.selected = b""
        self.validity = b"7"
        self.untagged_responses = {}
        self.capabilities = ("IMAP4REV1",)

    def _next(self, what):
        self.said.append(what)
        if self.trouble and (problem := self.trouble.pop(0)):
            raise problem

    def list(self, _directory, _pattern):
        self._next("LIST")
        return "OK", self.listed

    def lsub(self, _directory, _pattern):
        return "OK", [None]

    def select(self, name, readonly):
        assert readonly
        self.selected = name.strip(b'"')
        self._next("EXAMINE")
        return "OK", [b"%d" % len(self.mailboxes[self.selected])]

    def response(self, code):
        assert code == "UIDVALIDITY"
        return code, [self.validity]

    def fetch(self, numbers, _items):
        self._next(f"FETCH {numbers}")
        low, high = map(int, numbers.split(":"))
        inside = list(self.mailboxes[self.selected].items())[low - 1 : high]
        return "OK", [
            b"%d (FLAGS (\\Seen \\Recent work) UID %d RFC822.SIZE %d"
            b' INTERNALDATE " 1-Jan-2024 00:00:%02d +0100")' % (at, uid, len(data), uid % 60)
            for at, (uid, data) in enumerate(inside, low)
        ]

    def uid(self, _fetch, uids, items):
        self._next(f"UID FETCH {uids} {items}")
        found = []
        for uid in map(int, uids.split(",")):
            data = self.mailboxes[self.selected].get(uid)
            if data is not None:
                section = items.partition("BODY.PEEK")[2].rstrip(")").encode()
                if section == b"[HEADER]":
                    data = data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                found += [(b"9 (UID %d BODY%s {%d}" % (uid, section, len(data)), data), b")"]
        return "OK", found or [None]

    def shutdown(self):
        self.said.append("gone")

    def logout(self):
        self.said.append("LOGOUT")


class Client(ImapClient):
    """Talks to a :class:`Server` in memory, and notes how long it would wait."""

    def __init__(self, server: Server, max_message_bytes: int = MIB) -> None:
        self.pauses: list[float] = []
        place = imap_place("imap://ada@localhost", b"secret")
        super().__init__(place, max_message_bytes, self.pauses.append)
        self.server = server

    def _connect(self):
        return self.server


def mail(*uids: int) -> dict[int, bytes]:
    """Messages by their UIDs."""
    return {uid: b"Subject: %d\r\n\r\nText %d\r\n" % (uid, uid) for uid in uids}


def test_mail_is_taken_over_in_order(world: TransferWorld) -> None:
    """With flags, keywords, dates; a second time only headers are read."""
    server = Server({b"INBOX": mail(3, 5, 9), b"Gr&APwA3w-e": mail(1)})
    source = ImapSource(Client(server), WISHES)
    done = world.take_in("ada", source)
    assert (done.messages, done.mailboxes, done.unusable_count) == (4, 2, 0)
    assert world.progress.done == world.progress.expected > 0
    flags = Flags(SystemFlag.SEEN, ("work",))
    assert world.contents("ada")["INBOX"] == [
        (b"Subject: %d\r\n\r\nText %d\r\n" % (uid, uid), flags, 1_704_063_600 + uid) for uid in (3, 5, 9)
    ]
    assert len(world.contents("ada")["Grüße"]) == 1
    server.said.clear()
    server.mailboxes[b"INBOX"][12] = b"Subject: new\r\n\r\n"
    done = world.take_in("ada", source)
    assert (done.messages, done.already_there) == (1, 4)
    assert [one for one in server.said if one.endswith("PEEK[])")] == ["UID FETCH 12 (UID BODY.PEEK[])"]


def test_twins_are_counted(world: TransferWorld) -> None:
    """Two messages with one header and date are two, also when an import is continued."""
    server = Server({b"INBOX": {1: b"Subject: x\r\n\r\na", 61: b"Subject: x\r\n\r\nb"}})
    source = ImapSource(Client(server), WISHES)
    second = server.mailboxes[b"INBOX"].pop(61)
    assert world.take_in("ada", source).messages == 1
    server.mailboxes[b"INBOX"][61] = second
    assert world.take_in("ada", source).messages == 1
    assert world.take_in("ada", source).messages == 0
    assert [data[-1:] for data, _, _ in world.contents("ada")["INBOX"]] == [b"a", b"b"]


def test_bodies_are_asked_for_in_bounded_batches(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch is no longer than its bound, unless one message alone is."""
    monkeypatch.setattr(imap_source, "BATCH_BYTES", 100)
    sizes = {1: 60, 2: 40, 3: 1, 4: 500, 5: 99, 6: 2}
    server = Server({b"INBOX": {uid: b"x" * size for uid, size in sizes.items()}})
    world.take_in("ada", ImapSource(Client(server), WISHES))
    asked = [one.split(" ")[2] for one in server.said if one.endswith("PEEK[])")]
    assert asked == ["1,2", "3", "4", "5", "6"]
    assert [len(data) for data, _, _ in world.contents("ada")["INBOX"]] == list(sizes.values())


def test_a_connection_that_breaks_is_made_again(world: TransferWorld) -> None:
    """With longer and longer pauses, in the same mailbox; nothing is imported twice."""
    server = Server({b"INBOX": mail(*range(1, 30))})
    client = Client(server)
    abort = imaplib.IMAP4.abort("gone")
    server.trouble = [
        None,
        None,
        abort,
        OSError(),
        None,
        imaplib.IMAP4.error("[THROTTLED] slowly"),
        None,
        abort,
    ]
    assert world.take_in("ada", ImapSource(client, WISHES)).messages == 29
    assert len(world.contents("ada")["INBOX"]) == 29
    assert client.pauses[:2] == [2.0, 4.0]
    assert server.said.count("gone") >= 3


def test_patience_ends(world: TransferWorld) -> None:
    """A server that does not come back is told of as unavailable, one that refuses as unusable."""
    server = Server({b"INBOX": mail(1)})
    client = Client(server)
    server.trouble = [OSError()] * ATTEMPTS
    with pytest.raises(SourceUnavailable):
        world.take_in("ada", ImapSource(client, WISHES))
    assert len(client.pauses) == ATTEMPTS - 1
    server.trouble = [imaplib.IMAP4.error("NO")]
    with pytest.raises(SourceUnusable):
        world.take_in("ada", ImapSource(client, WISHES))


def test_another_mailbox_of_the_same_name_ends_the_import(world: TransferWorld) -> None:
    """UIDs of one mean nothing in the other (RFC 3501 section 2.3.1.1)."""
    server = Server({b"INBOX": mail(1)})

    class Replaced(Client):
        def _connect(self):
            self.server.validity += b"1"
            return self.server

    server.trouble = [None, None, None, OSError()]
    with pytest.raises(SourceUnusable):
        world.take_in("ada", ImapSource(Replaced(server), WISHES))
    assert not world.contents("ada")["INBOX"]


def test_what_the_server_will_not_give_is_named(world: TransferWorld) -> None:
    """A message that cannot be fetched, is too large, longer than was said, or gone, stops no other."""
    server = Server({b"INBOX": mail(1, 2, 3, 4, 5)})
    server.mailboxes[b"INBOX"][6] = b"x" * 2000
    whole = server.uid

    def uid(fetch, uids, items):
        if "2" in uids.split(","):
            return "NO", [b"some messages could not be fetched"]
        if "3" in uids.split(","):
            raise TooLong("the server sends too much")
        if uids == "4":
            return "OK", [b"4 (UID 4 BODY[] NIL)"]
        if uids == "5":
            return "OK", [None]
        return whole(fetch, uids, items)

    server.uid = uid
    done = world.take_in("ada", ImapSource(Client(server, 1000), ImapWishes(1000)))
    assert (done.messages, done.deleted_in_source) == (1, 1)
    assert {(one.place, one.reason) for one in done.unusable} == {
        ("'INBOX', UID 2", Reason.UNREADABLE),
        ("'INBOX', UID 3", Reason.UNREADABLE),
        ("'INBOX', UID 4", Reason.UNREADABLE),
        ("'INBOX', UID 6", Reason.TOO_LARGE),
    }


def test_views_give_what_is_nowhere_else(world: TransferWorld) -> None:
    """All mail of a server with labels: each message once, archived ones in Archive."""
    both = mail(1, 2)
    server = Server({b"All": {**both, **mail(3)}, b"INBOX": both, b"Star": mail(2)})
    server.listed = [
        b'(\\HasNoChildren \\All) "/" "All"',
        b'(\\HasNoChildren \\Flagged) "/" "Star"',
        b'(\\Noselect) "/" "Nothing"',
        b'() "/" INBOX',
    ]
    for _ in range(2):
        world.take_in("ada", ImapSource(Client(server), WISHES))
        found = {name: len(mail) for name, mail in world.contents("ada").items() if mail}
        assert found == {"INBOX": 2, "Archive": 1}


def test_choosing(world: TransferWorld) -> None:
    """Folders by pattern, messages by date, a mailbox to put all below; a dry run changes nothing."""
    server = Server({b"INBOX": mail(1, 50), b"Work/2023": mail(1), b"Work/2024": mail(1), b"Other": mail(1)})
    choice = Choice(only=("INBOX", "Work/*"), not_these=("*2023",), since=1_704_063_600 + 30, into="Old")
    before = world.contents("ada")
    dry = ImapSource(Client(server), ImapWishes(MIB, facts_only=True))
    done = world.take_in(
        "ada", dry, Choice(choice.only, choice.not_these, choice.since, choice.into, dry_run=True)
    )
    assert (done.messages, done.older, done.mailboxes) == (1, 2, 2)
    assert world.contents("ada") == before
    assert not [one for one in server.said if "PEEK[]" in one]
    done = world.take_in("ada", ImapSource(Client(server), WISHES), choice)
    assert (done.messages, done.older) == (1, 2)
    found = world.contents("ada")
    assert {name: len(mail) for name, mail in found.items() if name not in before} == {
        "Old": 0,
        "Old/INBOX": 1,
        "Old/Work": 0,
        "Old/Work/2024": 0,
    }


def test_the_rate_is_kept(world: TransferWorld) -> None:
    """By waiting after each batch for as long as its bytes should have taken."""
    waited: list[float] = []
    server = Server({b"INBOX": mail(1, 2)})
    size = sum(map(len, server.mailboxes[b"INBOX"].values()))
    world.take_in("ada", ImapSource(Client(server), ImapWishes(MIB, bytes_per_second=1), waited.append))
    assert size - 1 < sum(waited) <= size


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("imap://ada@example.org@imap.example.org", ("imap.example.org", 993, False, "ada@example.org")),
        ("imaps://ada%40example.org@[::1]:1993", ("::1", 1993, False, "ada@example.org")),
        ("imap+starttls://ada@host", ("host", 143, True, "ada")),
    ],
)
def test_places(url: str, expected: tuple[str, int, bool, str]) -> None:
    """TLS from the first octet, unless STARTTLS is asked for; an address can be the user's name."""
    place = imap_place(url, b"x")
    assert (place.host, place.port, place.starttls, place.user) == expected
    assert "ada" not in repr(place)


@pytest.mark.parametrize(
    "url",
    [
        "imap://host",
        "imap://a:b@host",
        "imap://@host",
        "http://a@h",
        "imap://a@h:x",
        "imap://a@",
        "imap://a@h/b",
    ],
)
def test_no_places(url: str) -> None:
    """Without a user, with a password for everybody to see, or not IMAP."""
    with pytest.raises(SourceUnusable):
        imap_place(url, b"x")


def test_responses_are_read() -> None:
    """Literals, quoted strings, NIL, flags of the server's own, names in any encoding."""
    data = [(b"1 (FLAGS () BODY[] {3}", b"a)b"), (b' X ("q\\"\\\\" NIL) UID {1}', b"7"), b")", b"2 (UID 1)"]
    first, second = responses(data)
    assert fetched(first) == {b"FLAGS": [], b"BODY[]": b"a)b", b"X": [b'q"\\', None], b"UID": b"7"}
    assert fetched(second) == {b"UID": b"1"}
    facts = fetched([b'1 (UID 2 RFC822.SIZE 3 INTERNALDATE "bad" FLAGS (\\DRAFT \\X ok "bad one" \\*))'])
    assert facts_of(facts) == Facts(2, 3, 0, Flags(SystemFlag.DRAFT, ("ok",)))
    one = listed([b'(\\Sent \\Subscribed) "." "INBOX.A.B"'], "INBOX.")
    assert (one.levels, one.special_use, one.wire) == (("A", "B"), SpecialUse.SENT, b"INBOX.A.B")
    assert listed([b"() NIL {4}", b"a\xffc/", b""], "").levels == ("a\ufffdc/",)
    assert listed([b'(\\NoSelect) "/" x'], "") is None
    assert namespace_prefix([b'(("INBOX." ".")) NIL NIL']) == "INBOX."
    assert namespace_prefix([b"NIL NIL NIL"]) == namespace_prefix([b"(("]) == ""


@pytest.mark.parametrize(
    "said", [b"1 (UID", b"1 UID 2)", b"1", b'1 (X "', b"(" * 50 + b")" * 50, b"1 (UID 1 X)"]
)
def test_what_is_no_response_is_malformed(said: bytes) -> None:
    """And nothing else happens, however deep it is."""
    with pytest.raises(Malformed):
        fetched([said])


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_octets_are_tokens_or_malformed(pieces: list[bytes]) -> None:
    """A server may say anything."""
    for read in (tokens, fetched, lambda one: listed(one, "x")):
        try:
            read(pieces)
        except Malformed:
            pass


def test_no_literal_is_longer_than_a_message_may_be() -> None:
    """The size is looked at before any of it is read."""
    for kind in (_Tls, _StartTls):
        connection = kind.__new__(kind)
        connection.most_bytes = 10
        with pytest.raises(TooLong):
            connection.read(11)
