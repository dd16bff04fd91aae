"""Logging in is unwrapping: from a name and a secret to an account's master key. Blocks; for threads.

An account on its way open is first ``Found`` (directory and header are read), then an ``Attempt`` (its
keyslot is chosen), then ``Proven`` (the secret was right, the master key is in memory), and ``Unlocked`` in
the worker (``mailstore.unlock``). The cheap part comes before the queue for Argon2. Every attempt runs
Argon2 exactly once, whether the account exists or not.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from mailstore.account import read_server_key
from mailstore.damage import tell_seldom
from mailstore.directory import AccountRecord, Directory, is_elsewhere, node_name
from mailstore.durable import make_folder, replace_file
from mailstore.errors import (
    AccountDisabled,
    AuthenticationFailed,
    HeaderTampered,
    NoSuchAccount,
    NoSuchKeyslot,
    OnAnotherNode,
    PasswordUnusable,
    ScopeDenied,
    StoreError,
    TooNew,
)
from mailstore.keys import (
    KEYS_FILE,
    NOBODY,
    AccountId,
    Argon2,
    Argon2Params,
    Expected,
    Header,
    Keyslot,
    PrivateKey,
    SignedHeader,
    SlotId,
    argon2id,
    authenticate,
    check_header,
    choose_slot,
    decoy_header,
    decoy_slot,
    dummy_scram_setup,
    lock_in_memory,
    open_scram_wrap,
    open_slot,
    parse_secret,
    read_header,
    wipe,
)
from mailstore.lease import require_lease
from mailstore.model import AccessProtocol, ScramExchange, ScramSetup
from mailstore.server_key import decoy_secret
from mailstore.staged_keys import header_now
from mailstore.this_node import note_opened

DECOY_FOLDER = "decoy"
"""Below the data root: a key header that belongs to nobody, recreated when it is missing."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is known under a login name; ``damage`` is why its header cannot be read."""

    record: AccountRecord | None
    signed: SignedHeader | None
    damage: StoreError | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A login ready for its Argon2 run. For an unknown account the slot is a decoy that cannot open."""

    found: Found
    slot: Keyslot
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Proven:
    """An account that its secret has opened. ``master`` is the caller's to wipe."""

    record: AccountRecord
    header: Header
    slot: Keyslot
    master: bytearray = field(repr=False)
    private_key: PrivateKey = field(repr=False)

    def admit(self, protocol: AccessProtocol | None, now: float) -> Keyslot:
        """As :meth:`Current.admit`, for the slot that was opened."""
        return Current(self.record, self.header).admit(self.slot.id, protocol, now)

    def wipe(self) -> None:
        """Overwrite the master key."""
        wipe(self.master)


def prepare(
    root: Path,
    directory: Directory,
    name: str | bytes,
    raw_secret: bytes,
    params: Argon2Params,
    *,
    opens: bool = True,
) -> Attempt:
    """Look up everything a login needs before Argon2. ``params`` is the cost of a decoy's run.

    ``opens`` tells whether the account is to be opened: then the log says if it is another node's.

    Never reveals whether the account exists: errors show only in :func:`complete`. Raises StorageFailed,
    Busy; LeaseOver; OnAnotherNode, also for some names that nobody has.
    """
    found = _find(root, directory, name, opens)
    try:
        secret = parse_secret(raw_secret)
    except PasswordUnusable:
        return Attempt(replace(found, damage=None), decoy_slot(params), b"")
    chosen = None if found.signed is None else choose_slot(found.signed.header.slots, secret)
    slot, secret_bytes = chosen or (decoy_slot(params), secret.password)
    return Attempt(found, slot, secret_bytes)


def complete(root: Path, directory: Directory, attempt: Attempt, argon2: Argon2 = argon2id) -> Proven:
    """Run Argon2 and open the account. Does not check the scope of the slot.

    Raises AuthenticationFailed; once the secret is right (or the header unreadable) HeaderTampered, TooNew.
    """
    found = attempt.found
    account_id = NOBODY if found.record is None else found.record.account_id
    try:
        master = open_slot(account_id, attempt.slot, attempt.secret, argon2=argon2)
    except AuthenticationFailed:
        if found.damage is not None:
            raise found.damage from None
        raise
    if found.record is None or found.signed is None:
        raise AuthenticationFailed
    return _proven(root, directory, found.record, found.signed, attempt.slot, master)


def scram_setup(root: Path, directory: Directory, name: str | bytes) -> ScramSetup:
    """Salt and iterations of SCRAM's server-first-message for ``name``; made up, but stable, for an unknown
    one.

    Raises HeaderTampered, TooNew, StorageFailed, Busy.
    """
    found = _find(root, directory, name)
    # All spellings of one name get one salt, as they would if the account existed.
    meant = directory.login_name(name)
    secret = decoy_secret(root, read_server_key(root))
    dummy = dummy_scram_setup(secret, name if meant is None else meant)
    if found.damage is not None:
        raise found.damage
    if found.record is None or found.signed is None:
        return dummy
    return found.signed.header.scram


def open_by_scram(
    root: Path, directory: Directory, name: str | bytes, exchange: ScramExchange
) -> tuple[Proven, bytes]:
    """Open an account by the end of a SCRAM exchange; also gives the ServerSignature (RFC 5802, 3).

    Raises AuthenticationFailed, HeaderTampered, TooNew, StorageFailed, Busy.
    """
    found = _find(root, directory, name)
    if found.damage is not None:
        raise found.damage
    if found.record is None or found.signed is None:
        raise AuthenticationFailed
    door = open_scram_wrap(found.record.account_id, found.signed.header.slots, exchange)
    proven = _proven(root, directory, found.record, found.signed, door.slot, door.master)
    return proven, door.server_signature


def _find(root: Path, directory: Directory, name: str | bytes, opens: bool = True) -> Found:
    # Before any name is looked at, so that all get the same answer.
    require_lease(root)
    # Read the directory before the header: the other way round, the directory could already have a newer
    # generation than the header that was read.
    mine = node_name(root)
    # For every name, so that each takes as long; a name that nobody has is on some node, too. One that nobody
    # can have is refused here: no other node has work with it.
    is_nowhere = mine is None or directory.login_name(name) is None
    seeming = None if is_nowhere else directory.seeming_node(name)
    record = directory.login(name)
    if record is None:
        if seeming is not None and seeming != mine:
            _read_decoy(root)
            raise OnAnotherNode(node=seeming)
        # An unknown name costs the same reads.
        _read_decoy(root)
        return Found(None, None, None)
    elsewhere = record.node if is_elsewhere(root, record) else None
    try:
        if elsewhere is not None and not opens:
            raise OnAnotherNode
        record, signed = header_now(root, directory, record)
    except OnAnotherNode:
        _read_decoy(root)  # as above
        raise OnAnotherNode(node=elsewhere, account=record.name) from None
    except NoSuchAccount:
        return Found(None, None, None)  # being destroyed
    except StoreError as error:
        _tell(record, error)
        return Found(record, None, error)
    return Found(record, signed, None)


def _tell(record: AccountRecord, error: BaseException) -> None:
    if isinstance(error, HeaderTampered):
        tell_seldom(record.account_id, f"{KEYS_FILE} is damaged or was exchanged")


def _read_decoy(root: Path) -> None:
    """Read the decoy header, as a login would read an account's."""
    folder = root / DECOY_FOLDER
    try:
        read_header(folder)
    except (NoSuchAccount, HeaderTampered, TooNew):
        with suppress(OSError):  # a full disk must not reveal which names are unknown
            make_folder(folder)
            replace_file(folder / KEYS_FILE, decoy_header())


def _proven(
    root: Path,
    directory: Directory,
    record: AccountRecord,
    signed: SignedHeader,
    slot: Keyslot,
    master: bytearray,
) -> Proven:
    lock_in_memory(master)
    try:
        private_key = check_header(signed, master, expected(record))
        if signed.header.generation > record.header_generation:
            directory.advance_header_generation(record.account_id, signed.header.generation)
        note_opened(root, record)
    except BaseException as error:
        wipe(master)
        _tell(record, error)
        raise
    return Proven(record, signed.header, slot, master, private_key)


def open_as_owner(
    root: Path,
    directory: Directory,
    name: str | bytes,
    raw_secret: bytes,
    *,
    now: float,
    argon2: Argon2 = argon2id,
    params: Argon2Params | None = None,
) -> Proven:
    """Open an account to change its keyslots: by password or recovery key, not by app password.

    ``now`` is in seconds since the epoch.

    Raises AuthenticationFailed, ScopeDenied, AccountDisabled, HeaderTampered, StorageFailed.
    """
    attempt = prepare(root, directory, name, raw_secret, params or Argon2Params())
    proven = complete(root, directory, attempt, argon2)
    try:
        proven.admit(None, now)
    except AuthenticationFailed:
        proven.wipe()
        raise
    return proven


def open_copied_header(folder: Path, account_id: AccountId, raw_secret: bytes) -> bytearray:
    """The master key in a header that is a copy from some time, by the owner's secret of that time.

    Raises AuthenticationFailed, HeaderTampered, TooNew, NoSuchAccount, StorageFailed.
    """
    signed = read_header(folder)
    try:
        chosen = choose_slot(signed.header.slots, parse_secret(raw_secret))
    except PasswordUnusable:
        chosen = None
    if chosen is None or not chosen[0].is_owner:
        raise AuthenticationFailed
    master = open_slot(account_id, *chosen)
    try:
        signed.verify(master)
    except HeaderTampered:
        wipe(master)
        raise
    return master


def current(root: Path, directory: Directory, account_id: AccountId, master: bytearray) -> "Current":
    """The account's record and header as they are on disk now, authenticated.

    Raises AuthenticationFailed if the account is gone, OnAnotherNode, HeaderTampered, TooNew, StorageFailed,
    Busy.
    """
    record = directory.account(account_id)
    if record is None:
        raise AuthenticationFailed
    try:
        record, signed = header_now(root, directory, record)
    except NoSuchAccount:
        raise AuthenticationFailed from None
    header = authenticate(signed, master, expected(record))
    note_opened(root, record)
    return Current(record, header)


@dataclass(frozen=True, slots=True)
class Current:
    """What directory and header say now about an account that was opened earlier."""

    record: AccountRecord
    header: Header

    def admit(self, slot_id: SlotId, protocol: AccessProtocol | None, now: float) -> Keyslot:
        """The slot, if it may be used by ``protocol`` (None: its owner, to administer) at ``now`` (epoch s).

        Raises AuthenticationFailed (revoked), AccountDisabled, ScopeDenied.
        """
        try:
            slot = self.header.slot(slot_id)
        except NoSuchKeyslot:
            raise AuthenticationFailed from None
        if self.record.disabled:
            raise AccountDisabled
        if not slot.scope.allows(protocol, now) or (protocol is None and not slot.is_owner):
            raise ScopeDenied
        return slot


def expected(record: AccountRecord) -> Expected:
    """What the header must agree with, from the directory's record."""
    return Expected(record.account_id, record.public_key, record.header_generation)
