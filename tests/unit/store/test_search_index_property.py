"""Index and scan agree about many needles in mail of many languages, also while the mail changes."""

from __future__ import annotations

import base64
import quopri
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from index_world import found, index, scanned
from store_world import World, now

from mailstore import search
from mailstore.limits import StoreLimits
from mailstore.mailbox import Mailbox
from mailstore.model import Flags, NewMessage, StoreMode, SystemFlag
from mailstore.ops import search as search_ops
from mailstore.search_form import search_form
from mailstore.uidset import UidSet

SENTENCES = (
    "The quick brown fox jumps over the lazy dog, 100 % of the time.",
    "Die Straße nach Köln ist länger als gedacht; GRÖSSE zählt.",
    "Le cœur déçu mais l'âme plutôt naïve, à Noël où Zéphyr haï.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία, ΣΊΣΥΦΟΣ.",
    "いろはにほへと ちりぬるを ハンバーガー ﾊﾝﾊﾞｰｶﾞｰ 日本語です",
    "다람쥐 헌 쳇바퀴에 타고파, 안녕하세요",
    "نص حكيم له سر قاطع وذو شأن عظيم",
    "עטלף אבק נס דרך מזגן שהתפוצץ כי חם",
    "สวัสดีครับ ยินดีต้อนรับ",
    "नमस्ते दुनिया, हिन्दी में लिखा हुआ",
    "emoji 👩‍👩‍👧 and 𝔉𝔯𝔞𝔨𝔱𝔲𝔯 and ﬁne ligatures №5 ½ \u00adsoft\u00adhyphen",
    'quotes "inside" and (brackets) AND OR NOT NEAR * ^ form: -x',
    "x\x00y nul\x00nul \x01 \x7f \ufffe\uffff end",
)
CHARSETS = ("utf-8", "utf-16", "iso-8859-1", "koi8-r", "iso-2022-jp", "windows-1252", "x-unknown")
NAMES = ("Ada Lovelace", 'Bob "B" Bee', "Zoë Größe", "Иван (Ваня) Петров", "山田 太郎")
FIELDS = ("SUBJECT", "FROM", "TO", "CC", "BCC", "X-NOTE", "MESSAGE-ID", "CONTENT-TYPE")


def encoded(rng: random.Random, text: str) -> str:
    """A header value as mail programs write it: raw, or in encoded words of which some are cut anywhere."""
    if rng.random() < 0.3:
        return text.replace("\0", " ")
    data, words = text.encode(), []
    while data:
        cut = rng.randint(4, 30)
        words.append(f"=?utf-8?B?{base64.b64encode(data[:cut]).decode()}?=")
        data = data[cut:]
    return rng.choice(["\r\n ", " ", "\r\n\t"]).join(words)


def address(rng: random.Random) -> str:
    """An address in one of its spellings."""
    user, host = f"user{rng.randint(1, 30)}", f"host{rng.randint(1, 5)}.example"
    name = rng.choice(NAMES)
    return rng.choice(
        [
            f"{user}@{host}",
            f"{encoded(rng, name)} <{user}@{host}>",
            f'"{name}" <{user}@{host}>'.replace('"B"', '\\"B\\"'),
            f"{user} (a comment)@ (another) {host}",
            f"Friends of {encoded(rng, name)}: {user}@{host}, (two) two @ {host};",
            f"<@relay.example:{user}@{host}>",
        ]
    )


def text_part(rng: random.Random) -> bytes:
    """Header and body of a text part in some charset, encoding and markup."""
    text = " ".join(rng.choices(SENTENCES, k=rng.randint(1, 4)))
    charset = rng.choice(CHARSETS)
    kind = rng.choice(["plain", "plain", "html"])
    if kind == "html":
        text = f"<p title='not seen'>{text.replace(' ', ' <b>', 1)}</b></p><style>hidden</style>&amp;&uuml;"
    data = text.encode("utf-8" if charset == "x-unknown" else charset, "replace")
    encoding = rng.choice([b"base64", b"quoted-printable", b"8bit"])
    match encoding:
        case b"base64":
            data = base64.encodebytes(data)
        case b"quoted-printable":
            data = quopri.encodestring(data)
    return (
        f"Content-Type: text/{kind}; charset={charset}\r\n".encode()
        + f"Content-Description: {encoded(rng, text[:20])}\r\n".encode()
        + b"Content-Transfer-Encoding: %s\r\n\r\n%s\r\n" % (encoding, data)
    )


def message(rng: random.Random, depth: int = 0) -> bytes:
    """A message, mostly with more than one part."""
    lines = [
        f"Subject: {encoded(rng, rng.choice(SENTENCES))}",
        f"Message-ID: <{rng.randint(0, 99)}.{depth}@id.example>",
    ]
    lines += [
        f"{field}: {address(rng)}, {address(rng)}"
        for field in ("From", "To", "Cc", "Bcc")
        if rng.random() < 0.7
    ]
    lines.append(f"X-Note: {encoded(rng, rng.choice(SENTENCES))}")
    rng.shuffle(lines)
    head = "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n"
    if rng.random() < 0.3 or depth > 2:
        return head + text_part(rng)
    boundary = b"b%d" % depth
    parts = [text_part(rng) for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.4:
        parts.append(b"Content-Type: message/rfc822\r\n\r\n" + message(rng, depth + 1))
    if rng.random() < 0.5:
        parts.append(
            b"Content-Type: application/pdf\r\nContent-Disposition: attachment;\r\n"
            b" filename*0*=utf-8''r%C3%A9sum; filename*1*=%C3%A9%20lists.pdf\r\n\r\nnot searched\r\n"
        )
    body = b"".join(b"--%s\r\n%s\r\n" % (boundary, part) for part in parts)
    return head + b"Content-Type: multipart/mixed; boundary=%s\r\n\r\nbefore\r\n%s--%s--\r\n" % (
        boundary,
        body,
        boundary,
    )


HAYSTACK = " ".join(
    SENTENCES
    + NAMES
    + ("user17@host3.example r\u00e9sum\u00e9 lists.pdf", "Friends of base64 <user1@host1.example>")
)
FORM = search_form(HAYSTACK)


def needle(rng: random.Random) -> str:
    """One to twenty characters, most of them out of the texts as they stand or in their form."""
    length = rng.randint(1, 20)
    source = rng.choice((HAYSTACK, HAYSTACK, FORM))
    at = rng.randrange(len(source) - length)
    text = source[at : at + length]
    if rng.random() < 0.15:
        text = "".join(rng.choices(HAYSTACK, k=rng.randint(1, 4)))
    return text.upper() if rng.random() < 0.2 else text


def key(rng: random.Random, depth: int = 0) -> search.Key:
    """A text that is searched for somewhere, at times among other keys."""
    text = needle(rng)
    match rng.randrange(12 if depth < 3 else 8):
        case 0 | 1 | 2:
            return search.BodyText(text)
        case 3 | 4:
            return search.AnyText(text)
        case 5 | 6 | 7:
            return search.HeaderText(rng.choice(FIELDS), text)
        case 8:
            return search.Not(key(rng, depth + 1))
        case 9:
            return search.Or(key(rng, depth + 1), key(rng, depth + 1))
        case 10:
            flag = search.HasFlag(SystemFlag.FLAGGED)
            return search.And((rng.choice([flag, search.Not(flag)]), key(rng, depth + 1)))
        case _:
            uids = search.Uids(UidSet.of(rng.sample(range(1, 80), 30)))
            return search.Or(uids, search.And((key(rng, depth + 1), search.Not(key(rng, depth + 1)))))


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailbox]:
    """Forty messages, all of them indexed."""
    rng = random.Random(7)  # the same mail each time
    world = World(tmp_path_factory.mktemp("languages") / "root")
    account = world.login()
    now(account.append("Drafts", [NewMessage(message(rng)) for _ in range(40)]))
    index(world)
    assert world.paths.search_db.exists()
    yield now(account.select("Drafts", False))
    world.close()


@pytest.mark.parametrize("seed", range(8))
def test_index_and_scan_agree(mailbox: Mailbox, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is searched for, and wherever; some of it is found and some is not."""
    rng = random.Random(seed)
    monkeypatch.setattr(search_ops, "FEW_OF", 1 + seed % 3)  # few messages are many of these
    sizes = set()
    for _ in range(40):
        wanted = key(rng)
        uids = found(mailbox, wanted)
        assert uids == scanned(mailbox, wanted), repr(wanted)
        sizes.add(len(uids))
    assert len(sizes) > 5


@pytest.mark.parametrize("seed", range(3))
def test_index_and_scan_agree_while_mail_comes_and_goes(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags, deliveries, expunges, moves and restarts lie between batches of indexing, which are small."""
    rng = random.Random(100 + seed)
    monkeypatch.setattr(search_ops, "FEW_OF", 1 + seed % 3)
    limits = StoreLimits(
        index_batch_messages=3,
        index_message_chars=rng.choice([400, 2_000_000]),
        index_field_chars=rng.choice([40, 1_000]),
    )
    world = World(tmp_path / "root", limits)
    account = world.login()
    for _ in range(30):
        drafts, archive = (now(account.select(name, False)) for name in ("Drafts", "Archive"))
        here = list(found(drafts, search.All()))
        some = UidSet.of([uid for uid in here if rng.random() < 0.2])
        match rng.randrange(7):
            case 0 | 1 | 2:
                fresh = [NewMessage(message(rng)) for _ in range(rng.randint(1, 6))]
                now(account.append(rng.choice(["Drafts", "Archive"]), fresh))
            case 3:
                now(drafts.store_flags(some, StoreMode.ADD, Flags(SystemFlag.FLAGGED), None, 0))
            case 4:
                now(drafts.remove(some))
            case 5:
                now(rng.choice([drafts.move, drafts.copy])(some, "Archive", 0))
            case 6:
                world.close()
                world = World(tmp_path / "root", limits)
                account = world.login()
                drafts, archive = (now(account.select(name, False)) for name in ("Drafts", "Archive"))
        for _ in range(rng.randint(0, 4)):
            world.clock.advance(rng.choice([0.1, 3.0]))
        for _ in range(6):
            wanted, mailbox = key(rng), rng.choice([drafts, archive])
            assert found(mailbox, wanted) == scanned(mailbox, wanted), repr(wanted)
    world.close()
