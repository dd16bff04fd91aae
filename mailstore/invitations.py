"""Inviting somebody into an account: a link that works once and for a while. Blocks; for threads.

The link's secret opens the invitation, which holds the account's master key. Opening it writes a new keyslot
into the header and destroys the invitation. The header is what counts: its keyslot has the invitation's id
(or has taken the place of the one that the invitation was to replace), so of two who open a link at the same
time one is refused, and so is whoever comes after a power cut between the two steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mailstore.account import NewAccount, account_paths, create_account, keys_lock
from mailstore.directory import AccountRecord, Directory
from mailstore.errors import (
    AccountDisabled,
    AuthenticationFailed,
    NoSuchAccount,
    NoSuchInvitation,
    ScopeDenied,
    StorageFailed,
    StorageFull,
    StoreError,
)
from mailstore.invitation_files import invitations, read_invitation, remove_invitation, write_invitation
from mailstore.keyring import Keyring
from mailstore.keys import (
    Argon2,
    Argon2Params,
    Header,
    Invitation,
    InvitationFacts,
    Keyslot,
    Scope,
    SlotId,
    Token,
    argon2id,
    lock_in_memory,
    make_invitation,
    new_slot_id,
    open_invitation,
    wipe,
)
from mailstore.model import AccessProtocol

DEVICE_VALID_S = 3600
"""How long somebody who has just chosen a password may take to set up a device, in seconds."""

DEVICE_LABEL = "set up by invitation"
NEW_ACCOUNT_LABEL = "new account"


@dataclass(frozen=True, slots=True)
class Joined:
    """What an invitation was exchanged for: an app password for one device, shown once."""

    name: str = field(repr=False)
    """The account's address."""

    app_password: str = field(repr=False)
    scope: Scope


@dataclass(frozen=True, slots=True)
class Welcomed:
    """What the first visitor of a new account gets: a recovery key, shown once, and a link for a device."""

    name: str = field(repr=False)
    recovery_key: str = field(repr=False)
    device: Token = field(repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where accounts are, and what a keyslot costs. ``clock`` gives epoch seconds."""

    root: Path
    directory: Directory
    params: Argon2Params = field(default_factory=Argon2Params)
    argon2: Argon2 = argon2id
    clock: Callable[[], float] = time.time


def invite(keyring: Keyring, facts: InvitationFacts) -> Token:
    """Make an invitation to the account that ``keyring`` has open; its token is shown once.

    Raises AddressInvalid (label), StorageFull, StorageFailed, HeaderTampered.
    """
    keyring.check_label(facts.label)
    invitation, token = make_invitation(keyring.account_id, keyring.free_id(), facts, keyring.master)
    write_invitation(keyring.root, invitation)
    return token


def invite_owner(root: Path, header: Header, master: bytearray, not_after: int) -> Token:
    """Make the invitation to a new account: whoever opens it chooses the password.

    The directory need not know the account yet. Raises StorageFull, StorageFailed.
    """
    (password,) = header.slots
    taken = (password.id, *(one.id for one in invitations(root)))
    facts = InvitationFacts(NEW_ACCOUNT_LABEL, password.created, not_after, Scope(), password.id)
    invitation, token = make_invitation(header.account_id, new_slot_id(taken), facts, master)
    write_invitation(root, invitation)
    return token


def create_account_for_owner(
    root: Path,
    directory: Directory,
    wanted: NewAccount,
    not_after: int,
    *,
    params: Argon2Params | None = None,
) -> tuple[AccountRecord, Token]:
    """Make an account whose password its owner chooses; forget the one in ``wanted``.

    The invitation is there before the directory knows the account, so that neither a failure nor a crash
    leaves one that takes mail which nobody could ever open. Raises as ``create_account``.
    """
    made: list[Token] = []

    def first_invite(header: Header, master: bytearray) -> None:
        made.append(invite_owner(root, header, master, not_after))

    try:
        record = create_account(root, directory, wanted, params=params, before_known=first_invite)
    except BaseException:
        for token in made:
            _destroy(root, token.id)
        raise
    return record, made[0]


def withdraw(root: Path, slot_id: SlotId) -> None:
    """Destroy an invitation; no secret is needed. Raises NoSuchInvitation: it is used, run out or unknown."""
    invitation = read_invitation(root, slot_id)
    if invitation is None:
        raise NoSuchInvitation
    try:
        with keys_lock(account_paths(root, invitation.account_id)):
            if read_invitation(root, slot_id) is None:
                raise NoSuchInvitation  # it was opened just now
            remove_invitation(root, slot_id)
    except NoSuchAccount:
        remove_invitation(root, slot_id)


def join(place: Place, token: Token, usable: frozenset[AccessProtocol] = frozenset(AccessProtocol)) -> Joined:
    """Exchange an invitation for an app password. One Argon2 run, once the secret is known to be right.

    Raises AuthenticationFailed: used, run out, withdrawn, never made, or the account is disabled or gone;
    ScopeDenied: it is for no protocol that is ``usable``, and it can be used where one of its own is;
    LimitExceeded, HeaderTampered, Busy, StorageFull, StorageFailed: it can be used later.
    """
    with _opened(place, token, replaces=False) as (invitation, keyring, name):
        if not usable & (invitation.scope.protocols or frozenset(AccessProtocol)):
            raise ScopeDenied
        made = keyring.make_app_password(invitation.id, invitation.label, invitation.scope)
        _exchange(place.root, keyring, invitation, made.slot)
        _destroy(place.root, invitation.id)
    return Joined(name, made.printed.text(), invitation.scope)


def welcome(place: Place, token: Token, password: bytes) -> Welcomed:
    """Exchange the invitation to a new account for a password of one's own, and a recovery key.

    Raises PasswordUnusable: the invitation can still be used; otherwise as ``join``.
    """
    with _opened(place, token, replaces=True) as (invitation, keyring, name):
        chosen, recovery = keyring.make_password(password), keyring.make_recovery_key()
        # First whatever may fail: once the password is changed its owner has to see the recovery key.
        now = int(place.clock())
        device = invite(keyring, InvitationFacts(DEVICE_LABEL, now, now + DEVICE_VALID_S, Scope()))
        try:
            _exchange(place.root, keyring, invitation, chosen, recovery.slot)
        except BaseException:
            _destroy(place.root, device.id)
            raise
        _destroy(place.root, invitation.id)
    return Welcomed(name, recovery.printed.text(), device)


def _exchange(root: Path, keyring: Keyring, invitation: Invitation, *made: Keyslot) -> None:
    """Put ``made`` into the header, and take them out again where the disk fails half way.

    Otherwise the link would be used up, and nobody would have seen what it was for. Raises as ``change``, and
    AuthenticationFailed.
    """
    before: list[Header] = []

    def exchanged(header: Header) -> Header:
        after = _unused(root, header, invitation)
        for slot in made:
            after = after.with_slot(slot, keyring.limits)
        before.append(header)
        return after

    def taken_back(header: Header) -> Header:
        if not set(made) <= set(header.slots):
            return header
        for slot in before[0].slots:
            if slot.id == invitation.replaces:
                header = header.with_slot(slot)
        for slot in made:
            if slot in header.slots:
                header = header.without_slot(slot.id)
        return header

    try:
        keyring.change(exchanged)
    except StoreError:
        if before:
            with suppress(StoreError):
                keyring.change(taken_back)
        raise


def _destroy(root: Path, slot_id: SlotId) -> None:
    """Destroy what nobody may use; on a disk that does not let it, it goes once it has run out."""
    with suppress(StorageFull, StorageFailed):
        remove_invitation(root, slot_id)


@contextmanager
def _opened(place: Place, token: Token, *, replaces: bool) -> Iterator[tuple[Invitation, Keyring, str]]:
    """The invitation, the account's keys and its name; the master key is wiped afterwards."""
    invitation = read_invitation(place.root, token.id)
    if invitation is None or (invitation.replaces is not None) is not replaces:
        raise AuthenticationFailed
    master = open_invitation(invitation, token, place.clock())
    lock_in_memory(master)
    try:
        record = place.directory.account(invitation.account_id)
        if record is None:
            raise AuthenticationFailed
        if record.disabled:
            raise AccountDisabled
        keyring = Keyring(
            place.root, place.directory, record.account_id, master, place.params, place.argon2, place.clock
        )
        yield invitation, keyring, record.name
    finally:
        wipe(master)


def _unused(root: Path, header: Header, invitation: Invitation) -> Header:
    """The header, if the invitation is there and not used; under its lock. Raises AuthenticationFailed."""
    ids = {slot.id for slot in header.slots}
    is_used = invitation.id in ids if invitation.replaces is None else invitation.replaces not in ids
    if is_used:
        _destroy(root, invitation.id)
    if is_used or read_invitation(root, invitation.id) is None:
        raise AuthenticationFailed
    return header
