"""SEARCH on mail that is hard to read: what a person sees in it is what is found in it."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Iterator
from pathlib import Path

import pytest
from index_world import index
from store_world import World, now

from mailstore import search
from mailstore.mailbox import Mailbox
from mailstore.model import ModSeq, NewMessage


def crlf(text: str) -> bytes:
    """Lines end with CRLF."""
    return text.replace("\n", "\r\n").encode()


LATIN = "Grüße aus Köln".encode("latin-1")
MAILS = {
    "encoded subject": crlf("Subject: =?utf-8?q?Gr=C3=B6=C3=9Fe?= =?utf-8?b?IG7DpGhlcg==?=\n\nx\n"),
    "folded subject": crlf("Subject: quarterly\n\treport of the\n  board\n\nx\n"),
    "two of a field": crlf("Received: from alpha\nReceived: from omega\n\nx\n"),
    "raw utf-8": crlf("Subject: naïve café\n\nx\n"),
    "empty field": crlf("X-Mark:\nSubject: marked\n\nx\n"),
    "base64 body": b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes("The password is hïdden across lines of base64, somewhere.".encode()),
    "quoted-printable body": b"Content-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + quopri.encodestring(LATIN + b" tender=ly"),
    "soft line breaks": crlf("Content-Transfer-Encoding: quoted-printable\n\nthis is interr=\nupted text\n"),
    "japanese body": b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n"
    + "日本語です".encode("iso-2022-jp"),
    "html": crlf("Content-Type: text/html\n\n<p>Tom &amp; Jerry said <b>hel</b>lo</p><style>hid{}</style>\n"),
    "nested": crlf(
        "Content-Type: multipart/mixed; boundary=a\n\npreamble-only\n--a\n"
        "Content-Type: multipart/alternative; boundary=b\n\n--b\n\ndeep inside\n--b--\n--a\n"
        "Content-Type: message/rfc822\n\nSubject: enclosed letter\n\nenclosed words\n--a\n"
        "Content-Type: application/pdf\n\nnot searched\n--a--\n"
    ),
    "wrapped": crlf("Subject: w\n\nthe end of one\nline and the next\n"),
    "broken charset": b"Content-Type: text/plain; charset=x-nobody-knows\r\n\r\nplain \xfc words\r\n",
    "broken base64": crlf("Content-Transfer-Encoding: base64\n\n!!!dGhlIHRydXRo!!!\n"),
    "addresses": crlf(
        'From: Ada <user (a comment)@ (another) example.org>\nTo: "Bob \\"B\\" Bee" <bob@example.org>, x@y\n'
        "Cc: Friends of =?utf-8?q?R=C3=A9mi?=: one@a.example, (two) two @ b . example;\n\nx\n"
    ),
    "attachments": crlf(
        "Subject: two files\nContent-Type: multipart/mixed; boundary=a\n\n--a\n"
        "Content-Type: image/png; name=logo.png\n\nnothing\n--a\nContent-Type: application/pdf\n"
        "Content-Disposition: attachment;\n filename*0*=utf-8''r%C3%A9sum; filename*1*=%C3%A9.pdf\n\nx\n--a\n"
        "Content-Type: message/rfc822\n\nSubject: inner one\nContent-Type: multipart/mixed; boundary=b\n\n"
        "--b\nContent-Type: audio/ogg; name=deepest.ogg\n\nx\n--b--\n--a--\n"
    ),
    "report": crlf(
        "Content-Type: multipart/report; report-type=delivery-status; boundary=a\n\n--a\n\nSorry.\n--a\n"
        "Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822; gone@example.org\n--a--\n"
    ),
    "marks": crlf("Subject: Crème Brûlée ﬁne №5 Ελλάδα Ёлка\n\nsoft­hyphen te\u200bxt e\u0323\u0302nd\n"),
    "no header": b"\r\nonly a body\r\n",
    "no body": b"Subject: only a header",
    "nothing": b"",
}
NAMES = list(MAILS)


@pytest.fixture(scope="module", params=["read", "indexed"])
def mailbox(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailbox]:
    """A mailbox with ``MAILS``, whose messages are all read, or looked up in the search index before."""
    folder: Path = tmp_path_factory.mktemp("difficult")
    world = World(folder / "root")
    account = world.login()
    now(account.append("Drafts", [NewMessage(data) for data in MAILS.values()]))
    if request.param == "indexed":
        index(world)
        assert world.paths.search_db.exists()
    yield now(account.select("Drafts", True))
    world.close()


def subject(text: str) -> search.Key:
    """SUBJECT."""
    return search.HeaderText("SUBJECT", text)


FINDS: list[tuple[search.Key, set[str]]] = [
    (subject("größe näher"), {"encoded subject"}),
    (subject("GRÖSSE"), {"encoded subject"}),
    (subject("report of the board"), {"folded subject"}),
    (subject("CAFÉ"), {"raw utf-8"}),
    (subject("cafe\u0301"), {"raw utf-8"}),
    (search.HeaderText("RECEIVED", "omega"), {"two of a field"}),
    (search.HeaderText("X-MARK", ""), {"empty field"}),
    (search.HeaderText("X-MARK", "a"), set()),
    (search.BodyText("HÏDDEN across lines of base64"), {"base64 body"}),
    (search.BodyText("grüsse aus köln"), {"quoted-printable body"}),
    (search.BodyText("interrupted text"), {"soft line breaks"}),
    (search.BodyText("日本"), {"japanese body"}),
    (search.BodyText("deep inside"), {"nested"}),
    (search.BodyText("enclosed words"), {"nested"}),
    (search.BodyText("enclosed letter"), {"nested"}),
    (subject("enclosed"), set()),
    (search.BodyText("not searched"), set()),
    (search.BodyText("of one line and"), {"wrapped"}),
    (search.BodyText("plain ü words"), {"broken charset"}),
    (search.BodyText("only a body"), {"no header"}),
    (search.AnyText("only a"), {"no header", "no body"}),
    (search.AnyText("quarterly"), {"folded subject"}),
    (search.Not(search.AnyText("")), set()),
    (search.HeaderText("FROM", "user@example.org"), {"addresses"}),
    (search.HeaderText("FROM", "ADA <user@example.org>"), {"addresses"}),
    (search.HeaderText("FROM", "a comment"), {"addresses"}),
    (search.HeaderText("FROM", "user (a comment)@ (another) example.org"), {"addresses"}),
    (search.HeaderText("TO", 'bob "b" bee <bob@'), {"addresses"}),
    (search.HeaderText("TO", 'Bee" <bob'), {"addresses"}),
    (search.HeaderText("TO", "x@y"), {"addresses"}),
    (search.HeaderText("TO", "user@example.org"), set()),
    (search.HeaderText("CC", "friends of remi"), {"addresses"}),
    (search.HeaderText("CC", "two@b.example"), {"addresses"}),
    (search.HeaderText("BCC", ""), set()),
    (search.AnyText("logo.png"), {"attachments"}),
    (search.BodyText("logo.png"), {"attachments"}),
    (search.BodyText("name=logo"), {"attachments"}),
    (search.BodyText("content-type: image/png; name=logo.png"), {"attachments"}),
    (search.AnyText("résumé.pdf"), {"attachments"}),
    (search.BodyText("deepest.ogg"), {"attachments"}),
    (search.BodyText("subject: inner"), {"attachments"}),
    (search.BodyText("two files"), set()),
    (search.AnyText("Subject: two files"), {"attachments"}),
    (search.AnyText("subject:two files"), set()),
    (search.AnyText("files content-type"), set()),
    (search.BodyText("gone@example.org"), {"report"}),
    (subject("creme brulee"), {"marks"}),
    (subject("CRÈME brule\u0301e"), {"marks"}),
    (subject("fine no5"), {"marks"}),
    (subject("ελλαδα"), {"marks"}),
    (subject("елка"), {"marks"}),
    (search.BodyText("softhyphen text end"), {"marks"}),
    (search.BodyText("so\u00adft"), {"marks"}),
    (subject("grosse naher"), {"encoded subject"}),
    (search.BodyText("muller"), set()),
    (subject("\u0301"), {name for name in NAMES if b"ubject:" in MAILS[name].partition(b"\r\n\r\n")[0]}),
]


@pytest.mark.parametrize(("key", "names"), FINDS, ids=range(len(FINDS)))
def test_finds(mailbox: Mailbox, key: search.Key, names: set[str]) -> None:
    """Exactly these messages are found."""
    found = now(mailbox.search(key, ModSeq(0))).uids
    assert {NAMES[uid - 1] for uid in found} == names


def test_text_across_markup_is_found(mailbox: Mailbox) -> None:
    """What HTML shows is searched, not its tags, entities or style sheets."""
    at = NAMES.index("html") + 1
    for text in ("tom & jerry", "hello"):
        assert now(mailbox.search(search.BodyText(text), ModSeq(0))).uids == (at,)
    assert now(mailbox.search(search.BodyText("hid{"), ModSeq(0))).uids == ()
