"""An account whose keys are changed, with everything in it that hangs on them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store_world import NAME, PASSWORD, TINY, World, now

from mailstore.account import AccountPaths
from mailstore.account_database import account_database, mail_key
from mailstore.engine import DatabaseKey
from mailstore.inbox_size import FORMER_KEY
from mailstore.invitations import invite
from mailstore.keyring import Keyring
from mailstore.keys import InvitationFacts, Scope, Token
from mailstore.limits import StoreLimits
from mailstore.model import Flags, NewMessage, StoreMode, SystemFlag
from mailstore.opened_account import Wanted, opened_account
from mailstore.opening import Proven, open_as_owner
from mailstore.ops.contents import TableContents, contents
from mailstore.rekeying import Rekeyed, rekey_account
from mailstore.search import BodyText
from mailstore.uidset import UidSet

ADDRESS = NAME.decode()
MESSAGE = b"Subject: %d\r\n\r\nhello number %d\r\n"


class RekeyWorld(World):
    """One account with mail, flags, annotations, an index, app passwords, a recovery key, a link."""

    def fill(self) -> None:
        """Put all of that in, and close the account."""
        account = self.login()
        now(account.append("INBOX", [NewMessage(MESSAGE % (at, at)) for at in range(4)]))
        mailbox = now(account.select("INBOX", False))
        since = mailbox.opened.status.highest_modseq
        now(
            mailbox.store_flags(
                UidSet.of([2]), StoreMode.ADD, Flags(SystemFlag.FLAGGED, ("$x",)), None, since
            )
        )
        now(account.annotate(None, {"/private/comment": b"mine"}))
        assert now(mailbox.search(BodyText("hello"), since)).uids
        account.release()
        self.settle()
        with self.owned() as (owner, keyring):
            self.app_password = keyring.add_app_password("phone", Scope()).printed.text().encode()
            self.recovery_key = keyring.replace_recovery_key().printed.text().encode()
            self.link: Token = invite(keyring, InvitationFacts("a link", 0, 2**40, Scope()))
            self.old_master = bytes(owner.master)
            self.old_private_key = owner.private_key

    def settle(self) -> None:
        """Let the account close after its last session."""
        self.clock.advance(StoreLimits().close_grace_s + 1)

    @contextmanager
    def owned(self):
        """The account as its owner has it, and its keyslots."""
        record = self.directory.accounts()[0]
        owner: Proven = open_as_owner(self.root, self.directory, record.name, PASSWORD, now=0, params=TINY)
        try:
            yield owner, Keyring(self.root, self.directory, record.account_id, owner.master, TINY)
        finally:
            owner.wipe()

    @property
    def account_id(self):
        """Of the only account."""
        return self.directory.accounts()[0].account_id

    def rekey(self, secret: bytes = PASSWORD, patience_s: float = 0.0) -> Rekeyed:
        """As the command does it."""
        record = self.directory.accounts()[0]
        return rekey_account(self.root, self.directory, record, secret, TINY, patience_s)

    def file_waiting(self) -> None:
        """As the command does it afterwards."""
        with opened_account(Wanted(self.root, ADDRESS, PASSWORD, TINY), writes=True) as account:
            account.file_waiting()

    def age_former_keys(self) -> None:
        """As if the last change of the keys was more than a day ago."""
        for path in self.paths.inbox.glob(f"{FORMER_KEY}*"):
            os.utime(path, (0, 0))

    def key(self) -> DatabaseKey:
        """Of the database, by the password."""
        with self.owned() as (owner, _):
            return mail_key(owner.master)

    def contents(self) -> dict[str, TableContents]:
        """Everything in the database: mail, UIDs, flags, annotations, numbers of rows."""
        with account_database(self.paths, self.key()) as database:
            return database.read(0, contents)

    def subjects(self) -> list[str]:
        """Of what is in INBOX after a login; the account is closed afterwards."""
        account = self.login()
        count = now(account.status("INBOX")).messages
        account.release()
        self.settle()
        with account_database(self.paths, self.key()) as database:
            query = "SELECT sort_subject FROM message_meta ORDER BY message_id"
            found = database.read(0, lambda txn: txn.rows(query))
        assert len(found) == count
        return [row[0] for row in found]


def make_world(folder: Path) -> Iterator[RekeyWorld]:
    """One with everything in it, for a fixture."""
    made = RekeyWorld(folder / "root")
    made.fill()
    yield made
    made.close()


def opened_by(world: World, secret: bytes) -> None:
    """A session by some secret. Raises AuthenticationFailed."""
    world.login(secret).release()
    world.clock.advance(StoreLimits().close_grace_s + 1)


def files(folder: Path) -> dict[str, bytes]:
    """What lies below a folder, but for locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.stat().st_size
    }


def staged(paths: AccountPaths) -> set[str]:
    """What of a change of keys lies in the account's folder."""
    names = {path.name for path in paths.folder.iterdir()}
    beginnings = ("keys-new", "former-key", "mail.db-new", ".keys-new", ".former-key")
    return {name for name in names if name.startswith(beginnings)}
