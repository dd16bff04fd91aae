"""What others learn: whoever holds the bucket, and whoever holds the backup private key as well."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from markers import forms, hits, make_markers
from snapshot_world import SnapshotWorld, in_inbox, message
from stores_world import CREDENTIALS, fresh_prefix, proxy_before, s3_store
from test_markers import message as marked_message

from backup.reading import content_key, open_file
from backup.sealing import CHUNK_BYTES, PREFIX_BYTES, SIGNATURE_BYTES, TAG_BYTES
from backup.segment import SERVER, SERVER_FILE, Header, SegmentName, parse_name
from mailstore.account import read_server_key
from mailstore.account_database import mail_key
from mailstore.engine import DatabaseKey, open_connection
from mailstore.errors import AuthenticationFailed, StoreError
from mailstore.model import AccessProtocol, NewMessage
from mailstore.sealed import padded_size
from tests.r2_server import R2Server
from tests.unit.store.store_world import NAME, PASSWORD, World, now

pytestmark = pytest.mark.integration

MARKERS = make_markers(6, seed=20261121)
ALIAS = "Kontakt.adresse@example.org"
NAME_OF_OBJECT = re.compile(r"[0-9a-f]{32}/[0-9]{8}-[0-9]{13}-(full|changes)")


@dataclass
class Seen:
    """Everything a bucket's holder sees; with it the world it is of."""

    world: SnapshotWorld
    objects: dict[str, bytes] = field(repr=False)
    requests: list[bytes] = field(repr=False)

    def opened(self) -> Iterator[tuple[SegmentName, Header, dict[str, bytes]]]:
        """Everything the private key opens: header, pages and files of each segment."""
        folder = self.world.place / "objects"
        folder.mkdir(exist_ok=True)
        for key, data in self.objects.items():
            name = parse_name(key)
            assert name is not None
            (folder / "one").write_bytes(data)
            with open_file(folder / "one", name, self.world.private_key) as segment:
                content = {"pages": b"".join(data for _, data in segment.pages())}
                content |= {one: b"".join(pieces) for one, pieces in segment.files()}
                yield name, segment.header, content


def live(world: SnapshotWorld) -> None:
    """Mail, folders and keywords with markers; full and changes segments, waiting mail in both."""
    world.mail.directory.add_alias(ALIAS, world.mail.directory.accounts()[0].account_id)
    for number, marker in enumerate(MARKERS):
        account = world.mail.login()
        now(account.create(f"{marker}/below"))
        now(account.append(f"{marker}/below", [NewMessage(marked_message(marker, "kept"))]))
        now(account.append("INBOX", [NewMessage(message(marker, marker.encode() * 50))]))
        account.release_at_once()
        world.mail.clock.advance(1000)
        world.mail.deliver(marked_message(marker, "waits"))
        if number % 2:
            world.pass_time(200)


@pytest.fixture(scope="module")
def seen(r2: R2Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """A bucket after some life."""
    with proxy_before(r2.endpoint) as proxy:
        place, prefix = tmp_path_factory.mktemp("observed"), fresh_prefix()
        store = s3_store(proxy.endpoint, prefix)
        world = SnapshotWorld(place, store)
        live(world)
        objects = {one.name: store.get(one.name, 0, one.size_bytes) for one in store.list()}
        requests = [
            f"{method} {path}\n{head}".encode()
            for (method, path), head in zip(proxy.requests, proxy.heads, strict=True)
        ]
        yield Seen(world, objects, requests)
        world.close()


def needles(*more: str) -> list[tuple[int, bytes]]:
    """Every form of the markers and of other words, numbered."""
    return [(number, form) for number, word in enumerate((*MARKERS, *more)) for form in forms(word)]


def names_of(world: SnapshotWorld) -> list[str]:
    """What tells who has an account here."""
    record = world.mail.directory.accounts()[0]
    return [record.account_id, NAME.decode(), NAME.decode().partition("@")[0], "example.org", ALIAS]


def test_the_bucket_alone_tells_no_name(seen: Seen) -> None:
    """No object, no name and no request has a marker, an address or an account id in any form."""
    wanted = needles(*names_of(seen.world), PASSWORD.decode(), "SQLite format")
    kinds = {name.rpartition("-")[2] for name in seen.objects}
    assert len(seen.objects) >= 6 and kinds == {"full", "changes"}
    for name, data in seen.objects.items():
        assert not hits(name.encode(), wanted) and not hits(data, wanted)
    assert len(seen.requests) > len(seen.objects)
    secrets = needles(*names_of(seen.world), CREDENTIALS.secret_access_key)
    assert not any(hits(request, secrets) for request in seen.requests)


def test_the_bucket_alone_shows_nothing_but_sizes_and_times(seen: Seen) -> None:
    """Names hold a random stream, number, time and kind; sizes are padded; the rest looks random."""
    for name, data in seen.objects.items():
        assert NAME_OF_OBJECT.fullmatch(name)
        body = len(data) - PREFIX_BYTES - SIGNATURE_BYTES
        content = body - -(-body // (CHUNK_BYTES + TAG_BYTES)) * TAG_BYTES
        assert padded_size(content) == content
        assert len(zlib.compress(data, 9)) >= len(data)
    accounts = seen.world.mail.directory.accounts()
    streams = {name.partition("/")[0] for name in seen.objects}
    assert len(streams) == 2 and not any(one.account_id in streams for one in accounts)


def test_the_private_key_opens_no_mail(seen: Seen) -> None:
    """Pages, key headers and sealed messages, opened by it, still hold no word of mail and no address."""
    # The account's id stands in its key header, which is nobody's name.
    mail, everyone = needles(), needles(*names_of(seen.world)[1:])
    held: set[str] = set()
    for _, header, content in seen.opened():
        for name, data in content.items():
            # Names and addresses of accounts are in server.json: FORMAT.md section 8.
            assert not hits(data, mail if name == SERVER_FILE else everyone), name
            held.add(name.partition("/")[0])
        if header.account != SERVER:
            assert not hits(header.encode(), mail)
    assert held == {"pages", "keys", "inbox", SERVER_FILE}
    texts = b"".join(content.get(SERVER_FILE, b"") for _, _, content in seen.opened())
    assert NAME in texts and ALIAS.lower().encode() in texts.lower()


def test_no_account_opens_without_a_secret_of_its_user(seen: Seen) -> None:
    """Not by the server's key, not by a content key, not by a wrong password: only by the right one."""
    restored = seen.world.restored("stolen")
    path = restored.paths.mail_db
    keys = [read_server_key(restored.root), bytes(seen.world.private_key.public[:32])]
    for key, data in seen.objects.items():
        name = parse_name(key)
        assert name is not None
        keys.append(
            content_key(name, lambda at, size, data=data: data[at : at + size], seen.world.private_key)
        )  # type: ignore[misc]
    for key in keys:
        for tried in (
            DatabaseKey(key, path.read_bytes()[:16]),
            mail_key(key),
        ):
            with pytest.raises(StoreError):
                open_connection(path, tried)
    with pytest.raises(AuthenticationFailed):
        now(restored.store.login(NAME, b"wrong", AccessProtocol.IMAP))
    assert _count(restored) == 2 * len(MARKERS)
    restored.close()


def _count(mail: World) -> int:
    return len(in_inbox(mail))
