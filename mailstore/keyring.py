"""Changing the keyslots of an opened account: app passwords, the recovery key, the password.

Every change re-reads and authenticates the header under its lock, writes it, and then records its generation
in the directory. The mailbox is never touched. Argon2 runs before the lock is taken.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from mailstore.account import account_paths, keys_lock
from mailstore.directory import Directory
from mailstore.errors import AddressInvalid, KeysChanged, NoSuchAccount, PasswordUnusable
from mailstore.invitation_files import invitations, remove_invitation
from mailstore.keys import (
    AccountId,
    Argon2,
    Argon2Params,
    Header,
    HeaderLimits,
    Keyslot,
    Printed,
    PublicKey,
    Scope,
    SlotFacts,
    SlotId,
    SlotKind,
    argon2id,
    check_header,
    choose_slot,
    make_scram_wrap,
    make_slot,
    new_app_password,
    new_recovery_key,
    new_slot_id,
    parse_secret,
    read_header,
    write_header,
)
from mailstore.locks import LOCK_TIMEOUT_S
from mailstore.opening import expected
from mailstore.this_node import require_here


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A keyslot and the generated secret that opens it, to be shown once."""

    slot: Keyslot
    printed: Printed = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keyslots of an account whose master key the caller holds; all methods block.

    All may raise HeaderTampered, NoSuchAccount, Busy (also KeysChanged), StorageFull, StorageFailed.
    """

    root: Path
    directory: Directory
    account_id: AccountId
    master: bytearray = field(repr=False)
    params: Argon2Params = field(default_factory=Argon2Params)
    argon2: Argon2 = argon2id
    clock: Callable[[], float] = time.time
    limits: HeaderLimits = field(default_factory=HeaderLimits)
    lock_timeout_s: float = LOCK_TIMEOUT_S
    public_key: PublicKey | None = field(default=None, repr=False)
    """The account's when it was opened, to tell a new master key that came since from a damaged header."""

    def slots(self) -> tuple[Keyslot, ...]:
        """The keyslots as they are on disk now, authenticated."""
        return self._current().slots

    def add_app_password(self, label: str, scope: Scope) -> NewSecret:
        """Add a slot for a fresh app password. Raises AddressInvalid (label), LimitExceeded."""
        self.check_label(label)
        made = self.make_app_password(self.free_id(), label, scope)
        self.change(lambda header: header.with_slot(made.slot, self.limits))
        return made

    def check_label(self, label: str) -> None:
        """Raises AddressInvalid: no app password may be called that."""
        if not label or len(label) > self.limits.label_chars or not label.isprintable():
            raise AddressInvalid

    def make_app_password(self, slot_id: SlotId, label: str, scope: Scope) -> NewSecret:
        """A slot for a fresh app password, which nobody has added to the header yet."""
        printed = new_app_password(slot_id)
        bare = self._make(slot_id, SlotKind.APP_PASSWORD, label, scope, printed.canonical.encode())
        setup = self._current().scram
        slot = replace(bare, scram=make_scram_wrap(self.account_id, printed, setup, self.master))
        return NewSecret(slot, printed)

    def replace_recovery_key(self) -> NewSecret:
        """Make a new recovery key; the old one stops working."""
        made = self.make_recovery_key()
        self.change(lambda header: header.with_slot(made.slot, self.limits))
        return made

    def make_recovery_key(self) -> NewSecret:
        """A slot for a new recovery key, which nobody has added to the header yet."""
        printed = new_recovery_key(self.free_id())
        slot = self._make(
            printed.slot_id, SlotKind.RECOVERY_KEY, "recovery key", Scope(), printed.canonical.encode()
        )
        return NewSecret(slot, printed)

    def change_password(self, new_password: bytes) -> Keyslot:
        """Let ``new_password`` open the account instead of the old one; also after a revoked password.

        Raises PasswordUnusable, also for the text of one of the account's generated secrets.
        """
        slot = self.make_password(new_password)
        self.change(lambda header: header.with_slot(slot, self.limits))
        return slot

    def make_password(self, new_password: bytes) -> Keyslot:
        """A slot for a new password, which nobody has added to the header yet. Raises PasswordUnusable."""
        secret = parse_secret(new_password)
        others = [slot for slot in self.slots() if slot.kind is not SlotKind.PASSWORD]
        recovery_form = secret.printed is not None and secret.printed.kind is SlotKind.RECOVERY_KEY
        if recovery_form or choose_slot(others, secret) is not None:
            raise PasswordUnusable
        return self._make(self.free_id(), SlotKind.PASSWORD, "password", Scope(), secret.password)

    def revoke(self, slot_id: SlotId) -> None:
        """Remove a keyslot. Raises NoSuchKeyslot, LastKeyslot."""
        # It may have come of an invitation that a power cut has kept from being removed.
        remove_invitation(self.root, slot_id)
        self.change(lambda header: header.without_slot(slot_id))

    def upgrade(self, slot: Keyslot, secret: bytes) -> None:
        """Rewrap a slot that was just opened, under the current Argon2 parameters; its id stays.

        Nothing happens if the slot has been revoked or changed meanwhile.
        """
        facts = SlotFacts(slot.id, slot.kind, slot.label, slot.created, slot.scope)
        made = make_slot(self.account_id, facts, self.params, secret, self.master, argon2=self.argon2)
        stronger = replace(made, scram=slot.scram)
        self.change(lambda header: header.with_slot(stronger) if slot in header.slots else header)

    def change(self, edit: Callable[[Header], Header]) -> None:
        """Apply ``edit`` to the header under its lock."""
        paths = account_paths(self.root, self.account_id)
        with keys_lock(paths, self.lock_timeout_s):
            before = self._current()
            after = edit(before)
            if after is before:
                return
            write_header(paths.folder, after, self.master)
            self.directory.advance_header_generation(self.account_id, after.generation)

    def _current(self) -> Header:
        record = self.directory.account(self.account_id)
        if record is None:
            raise NoSuchAccount
        require_here(self.root, record)
        if self.public_key not in (None, record.public_key):
            raise KeysChanged
        signed = read_header(account_paths(self.root, self.account_id).folder, self.limits)
        check_header(signed, self.master, expected(record))
        return signed.header

    def free_id(self) -> SlotId:
        """An id that neither a keyslot nor an invitation has."""
        invited = (one.id for one in invitations(self.root))
        return new_slot_id([*(slot.id for slot in self.slots()), *invited])

    def _make(self, slot_id: SlotId, kind: SlotKind, label: str, scope: Scope, secret: bytes) -> Keyslot:
        facts = SlotFacts(slot_id, kind, label, int(self.clock()), scope)
        return make_slot(self.account_id, facts, self.params, secret, self.master, argon2=self.argon2)
