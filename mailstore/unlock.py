"""Logins of one worker process: the queue for Argon2, shared runs and the login cache.

Runs on the reactor (coroutines over Deferreds); everything that blocks goes through an injected
``run_in_thread``. Nothing that a client can guess from outside depends on whether an account exists:
each attempt costs one directory look-up and one Argon2 run of the same size.
"""

import hmac
import os
import struct
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailstore.directory import AccountRecord, Directory
from mailstore.errors import AccountClosed, AuthenticationFailed, HeaderTampered, KeysChanged, StoreError
from mailstore.keyring import Keyring
from mailstore.keys import (
    AccountId,
    Argon2,
    Argon2Params,
    PrivateKey,
    Scope,
    SlotId,
    argon2id,
    authenticate,
    lock_in_memory,
    wipe,
)
from mailstore.memory_gate import MemoryGate
from mailstore.model import NOWHERE, AccessProtocol, Origin, ScramExchange, ScramSetup
from mailstore.opening import (
    Attempt,
    Current,
    Proven,
    complete,
    current,
    expected,
    open_by_scram,
    prepare,
    scram_setup,
)

P = ParamSpec("P")
T = TypeVar("T")

_KIB_PER_MIB = 1024
_CACHE_KEY_BYTES = 32


class RunInThread(Protocol):
    """Runs a blocking function somewhere else; the result can be awaited."""

    def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Start ``function`` and return at once."""


@dataclass(frozen=True, slots=True)
class UnlockLimits:
    """Bounds on key derivation in one worker.

    ``argon2_memory_budget_mib`` is what all runs at a time may use together; ``waiting_logins`` is how
    many may queue for it; ``params`` is the cost of new and upgraded keyslots and of unknown accounts.
    """

    argon2_memory_budget_mib: int = 512
    waiting_logins: int = 256
    params: Argon2Params = field(default_factory=Argon2Params)


class Unlocked:
    """One session's hold on an opened account. Call :meth:`wipe` when the session ends.

    ``scope`` is what its keyslot allows. The account counts as unlocked in this process while any such
    object lives; to keep it so for a grace period, hold a :meth:`share`.
    """

    __slots__ = (
        "__weakref__",
        "_finalizer",
        "_master",
        "_owner",
        "private_key",
        "protocol",
        "record",
        "scope",
        "slot_id",
    )

    def __init__(
        self,
        owner: "Unlocker",
        record: AccountRecord,
        slot_id: SlotId,
        scope: Scope,
        protocol: AccessProtocol | None,
        master: bytes | bytearray,
        private_key: PrivateKey,
    ) -> None:
        self.record, self.slot_id, self.scope, self.protocol = record, slot_id, scope, protocol
        self.private_key = private_key
        self._owner = owner
        self._master = bytearray(master)
        lock_in_memory(self._master)
        self._finalizer = weakref.finalize(self, owner.released, record.account_id, self._master)

    def __repr__(self) -> str:
        return f"<Unlocked {self.record.account_id} slot {self.slot_id}>"

    @property
    def account_id(self) -> AccountId:
        """The account that is open."""
        return self.record.account_id

    @property
    def is_wiped(self) -> bool:
        """Whether :meth:`wipe` was called."""
        return not self._finalizer.alive

    @property
    def master(self) -> bytearray:
        """The master key itself; do not keep a copy. Raises AccountClosed after :meth:`wipe`."""
        if self.is_wiped:
            raise AccountClosed
        return self._master

    def share(self) -> "Unlocked":
        """A second, independent hold. Raises AccountClosed."""
        return self._owner.hold(self)

    def wipe(self) -> None:
        """Overwrite this object's master key; harmless when repeated."""
        self._finalizer()
        self._owner.reap()


@dataclass(slots=True)
class _Live:
    """An account with at least one :class:`Unlocked`; ``tags`` remembers the secrets that opened it."""

    master: bytearray = field(repr=False)
    private_key: PrivateKey
    holds: int = 0
    tags: dict[bytes, SlotId] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class _Waiter:
    answer: Deferred[Unlocked]
    protocol: AccessProtocol | None


class Unlocker:
    """Every login in a worker goes through one of these."""

    def __init__(
        self,
        root: Path,
        directory: Directory,
        run_in_thread: RunInThread,
        *,
        limits: UnlockLimits | None = None,
        argon2: Argon2 = argon2id,
        clock: Callable[[], float] = time.time,
        on_waited: Callable[[float], None] | None = None,
    ) -> None:
        """``on_waited`` hears of each login that has got memory, and for how many seconds it waited."""
        self._root, self._directory, self._run = root, directory, run_in_thread
        self._limits = limits or UnlockLimits()
        self._argon2, self._clock, self._on_waited = argon2, clock, on_waited
        self._gate = MemoryGate(
            self._limits.argon2_memory_budget_mib * _KIB_PER_MIB, self._limits.waiting_logins
        )
        self._cache_key = os.urandom(_CACHE_KEY_BYTES)
        self._live: dict[AccountId, _Live] = {}
        self._flights: dict[bytes, list[_Waiter]] = {}
        self._released: deque[AccountId] = deque()

    async def unlock(
        self, name: str | bytes, secret: bytes, protocol: AccessProtocol | None, origin: Origin = NOWHERE
    ) -> Unlocked:
        """Log in to the account called ``name``; ``protocol`` None is administration by the owner.

        ``origin`` is where the attempt comes from, for taking turns (see :class:`MemoryGate`).

        Raises AuthenticationFailed (unknown account, wrong or revoked secret), its subclasses
        ScopeDenied and AccountDisabled once the secret is right, TooManyLogins, HeaderTampered, TooNew,
        Busy, StorageFailed.
        """
        return await self._unlock(name, secret, protocol, origin, opens=True)

    async def _unlock(
        self,
        name: str | bytes,
        secret: bytes,
        protocol: AccessProtocol | None,
        origin: Origin,
        *,
        opens: bool,
    ) -> Unlocked:
        look_up = partial(prepare, opens=opens)
        attempt = await self._run(look_up, self._root, self._directory, name, secret, self._limits.params)
        tag = self._tag(attempt, name, secret)
        self.reap()
        cached = self._from_cache(tag, attempt, protocol)
        return cached if cached is not None else await self._join(tag, attempt, protocol, origin)

    async def prove(
        self, name: str | bytes, secret: bytes, protocol: AccessProtocol | None, origin: Origin = NOWHERE
    ) -> str:
        """The name of the account that ``secret`` may open; its key is forgotten at once, unless somebody
        else holds it.

        Raises as :meth:`unlock` does. It is nothing for the log if another node has the account.
        """
        unlocked = await self._unlock(name, secret, protocol, origin, opens=False)
        try:
            return unlocked.record.name
        finally:
            unlocked.wipe()

    async def scram_setup(self, name: str | bytes) -> ScramSetup:
        """Salt and iterations to send to a SCRAM client; invented, but stable, for an unknown name.

        Raises HeaderTampered, TooNew, Busy, StorageFailed.
        """
        return await self._run(scram_setup, self._root, self._directory, name)

    async def unlock_by_scram(
        self, name: str | bytes, exchange: ScramExchange, protocol: AccessProtocol | None
    ) -> tuple[Unlocked, bytes]:
        """Log in by an app password that only its client knows; also gives the ServerSignature to send.

        No Argon2 runs: app passwords are random. Raises as :meth:`unlock` does, but for TooManyLogins.
        """
        proven, signature = await self._run(_prove_by_scram, self._root, self._directory, name, exchange)
        self.reap()
        try:
            hold = self._admitted(proven, protocol)
        finally:
            proven.wipe()
        return hold, signature

    def _admitted(self, proven: Proven, protocol: AccessProtocol | None) -> Unlocked:
        """Raises AuthenticationFailed: revoked or locked meanwhile, or not for ``protocol``."""
        slot = proven.admit(protocol, self._clock())
        return self._new_hold(proven.record, slot.id, slot.scope, protocol, proven.master, proven.private_key)

    async def recheck(self, unlocked: Unlocked) -> None:
        """Check again whether a running session may continue, after its account's key header changed.

        Raises AuthenticationFailed (revoked, or the account is gone), ScopeDenied, AccountDisabled,
        AccountClosed, HeaderTampered, StorageFailed.
        """
        # A copy, because the session may be wiped while the thread computes.
        master = bytearray(unlocked.master)
        try:
            now = await self._run(current, self._root, self._directory, unlocked.account_id, master)
        finally:
            wipe(master)
        now.admit(unlocked.slot_id, unlocked.protocol, self._clock())

    @property
    def waiting(self) -> int:
        """Logins that wait for memory."""
        return self._gate.waiting

    def hold(self, unlocked: Unlocked) -> Unlocked:
        """Another hold like ``unlocked``; see :meth:`Unlocked.share`."""
        return self._new_hold(
            unlocked.record, unlocked.slot_id, unlocked.scope, unlocked.protocol,
            unlocked.master, unlocked.private_key,
        )  # fmt: skip

    def released(self, account_id: AccountId, master: bytearray) -> None:
        """Called when an :class:`Unlocked` ends, perhaps by the garbage collector in any thread."""
        wipe(master)
        self._released.append(account_id)

    def reap(self) -> None:
        """Forget accounts that nobody holds any more. On the reactor's thread only."""
        while self._released:
            account_id = self._released.popleft()
            live = self._live[account_id]
            live.holds -= 1
            if live.holds == 0:
                wipe(live.master)
                del self._live[account_id]

    def _tag(self, attempt: Attempt, name: str | bytes, secret: bytes) -> bytes:
        # The slot is part of the tag: a login that no longer finds the slot must not share a run that did.
        record = attempt.found.record
        text = name.encode("utf-8", "surrogatepass") if isinstance(name, str) else name
        who = record.account_id.encode("ascii") if record is not None else text
        parts = (b"unknown" if record is None else b"known", who, attempt.slot.id.encode("ascii"), secret)
        data = b"".join(struct.pack(">Q", len(part)) + part for part in parts)
        return hmac.digest(self._cache_key, data, "sha256")

    def _from_cache(self, tag: bytes, attempt: Attempt, protocol: AccessProtocol | None) -> Unlocked | None:
        record, signed = attempt.found.record, attempt.found.signed
        live = None if record is None else self._live.get(record.account_id)
        if live is None or record is None or signed is None or tag not in live.tags:
            return None
        try:
            header = authenticate(signed, live.master, expected(record))
        except HeaderTampered:
            return None  # Damaged, or the master key has changed: a full login will tell.
        slot_id = live.tags[tag]
        slot = Current(record, header).admit(slot_id, protocol, self._clock())
        return self._new_hold(record, slot_id, slot.scope, protocol, live.master, live.private_key)

    def _join(
        self, tag: bytes, attempt: Attempt, protocol: AccessProtocol | None, origin: Origin
    ) -> Deferred[Unlocked]:
        answer: Deferred[Unlocked] = Deferred()
        waiters = self._flights.get(tag)
        if waiters is not None:
            waiters.append(_Waiter(answer, protocol))
            return answer
        self._flights[tag] = [_Waiter(answer, protocol)]
        # The run belongs to no single login: it continues if the client that started it hangs up.
        flight = Deferred.fromCoroutine(self._prove(tag, attempt, origin))
        flight.addCallbacks(self._landed, self._failed, callbackArgs=(tag, attempt), errbackArgs=(tag,))
        return answer

    async def _prove(self, tag: bytes, attempt: Attempt, origin: Origin) -> Proven:
        began_s = time.monotonic()
        passed = await self._gate.enter(attempt.slot.params.memory_kib, origin)
        if self._on_waited is not None:
            self._on_waited(time.monotonic() - began_s)
        try:
            if all(waiter.answer.called for waiter in self._flights[tag]):
                raise AccountClosed  # everybody has hung up while it waited for memory
            return await self._run(_prove, self._root, self._directory, attempt, self._argon2)
        finally:
            self._gate.leave(passed)

    def _landed(self, proven: Proven, tag: bytes, attempt: Attempt) -> Deferred[None] | None:
        for waiter in self._flights.pop(tag):
            if waiter.answer.called:
                continue  # Hung up meanwhile.
            try:
                hold = self._admitted(proven, waiter.protocol)
            except AuthenticationFailed as error:
                waiter.answer.errback(error)
                continue
            self._live[hold.account_id].tags[tag] = hold.slot_id
            waiter.answer.callback(hold)
        if proven.slot.params.weaker_than(self._limits.params):
            return Deferred.fromCoroutine(self._upgrade(proven, attempt.secret))
        proven.wipe()
        return None

    def _failed(self, failure: Failure, tag: bytes) -> None:
        for waiter in self._flights.pop(tag):
            if not waiter.answer.called:
                waiter.answer.errback(failure)

    async def _upgrade(self, proven: Proven, secret: bytes) -> None:
        params = self._limits.params
        keyring = Keyring(
            self._root, self._directory, proven.record.account_id, proven.master, params, self._argon2
        )
        try:
            passed = await self._gate.enter(params.memory_kib, Origin(proven.record.account_id))
            try:
                await self._run(keyring.upgrade, proven.slot, secret)
            finally:
                self._gate.leave(passed)
        except StoreError:
            pass  # The login itself succeeded; the next one tries again.
        finally:
            proven.wipe()

    def _new_hold(
        self,
        record: AccountRecord,
        slot_id: SlotId,
        scope: Scope,
        protocol: AccessProtocol | None,
        master: bytearray,
        private_key: PrivateKey,
    ) -> Unlocked:
        live = self._live.get(record.account_id)
        if live is None:
            live = self._live[record.account_id] = _Live(bytearray(master), private_key)
            lock_in_memory(live.master)
        elif not hmac.compare_digest(live.master, master):
            # The master key was rotated while older sessions still run.
            live.master[:] = master
            live.private_key = private_key
            live.tags.clear()
        live.holds += 1
        return Unlocked(self, record, slot_id, scope, protocol, master, private_key)


def _prove(root: Path, directory: Directory, attempt: Attempt, argon2: Argon2) -> Proven:
    return _as_it_is_now(root, directory, complete(root, directory, attempt, argon2))


def _prove_by_scram(
    root: Path, directory: Directory, name: str | bytes, exchange: ScramExchange
) -> tuple[Proven, bytes]:
    proven, signature = open_by_scram(root, directory, name, exchange)
    return _as_it_is_now(root, directory, proven), signature


def _as_it_is_now(root: Path, directory: Directory, proven: Proven) -> Proven:
    """The login may have queued for long; what counts is record and header as they are after the wait."""
    try:
        now = current(root, directory, proven.record.account_id, proven.master)
    except BaseException as error:
        proven.wipe()
        record = directory.account(proven.record.account_id) if isinstance(error, HeaderTampered) else None
        if record is not None and record.public_key != proven.record.public_key:
            raise KeysChanged from None
        raise
    return replace(proven, record=now.record, header=now.header)
