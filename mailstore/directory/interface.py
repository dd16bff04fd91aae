"""What the rest of the program asks a directory, and the values it answers with."""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from mailstore.keys import AccountId, Header, PublicKey
from mailstore.model import Pop3Settings

NO_QUOTA = 2**63 - 1
"""As a storage limit: there is none, whatever the domain or the server has."""


def storage_limit(*levels: int | None) -> int | None:
    """The limit in bytes that counts, None for none: the first that is set, from account to server."""
    found = next((one for one in levels if one is not None), NO_QUOTA)
    return None if found == NO_QUOTA else found


@dataclass(frozen=True, slots=True)
class DomainLimits:
    """What a domain may have; None where it was not limited."""

    quota_bytes: int | None = None
    """The storage limit of each of its accounts; None: the server's. ``NO_QUOTA`` is possible."""

    accounts: int | None = None
    """How many accounts may have their name in it."""

    aliases: int | None = None
    """How many other addresses it may have, whosever they are."""


NO_LIMITS = DomainLimits()


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """What the directory knows about an account. ``name`` is its primary address; times in epoch s.

    ``quota_bytes`` is the account's own storage limit, ``domain_quota_bytes`` that of its domain; None where
    none was set, and ``NO_QUOTA``. :meth:`limit_bytes` says which counts.
    """

    account_id: AccountId
    name: str = field(repr=False)
    public_key: PublicKey = field(repr=False)
    header_generation: int
    quota_bytes: int | None
    created: int
    disabled: bool
    pop3: Pop3Settings = field(default_factory=Pop3Settings)
    domain_quota_bytes: int | None = None
    node: str | None = None
    """The node that has the account's files; None: the server that has them has no name."""

    node_generation: int = 0
    """How often the account has been given to a node; only grows."""

    def limit_bytes(self, default: int | None) -> int | None:
        """The storage limit that counts, None for none; ``default`` is the server's."""
        return storage_limit(self.quota_bytes, self.domain_quota_bytes, default)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Where mail for an address goes. ``mailbox_hint`` is the detail of user+detail@domain, ``name`` the
    account's primary address."""

    account_id: AccountId
    name: str = field(repr=False)
    public_key: PublicKey = field(repr=False)
    mailbox_hint: str | None = field(repr=False)
    quota_bytes: int | None
    disabled: bool
    domain_quota_bytes: int | None = None
    node: str | None = None
    node_generation: int = 0
    elsewhere: bool = False
    """Set by the store: its mail is taken by ``node``, and not here."""

    def limit_bytes(self, default: int | None) -> int | None:
        """As :meth:`AccountRecord.limit_bytes`."""
        return storage_limit(self.quota_bytes, self.domain_quota_bytes, default)


@dataclass(frozen=True, slots=True)
class Alias:
    """A further address of an account."""

    address: str = field(repr=False)
    account_name: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Doors:
    """Where a node takes what a proxy in front of it passes on, by protocol: IP:PORT, None for nowhere."""

    imap: str | None = None
    pop3: str | None = None
    submission: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One of the servers that share a directory, and where the others bring mail to it (HOST:PORT)."""

    name: str
    address: str
    doors: Doors = Doors()


@dataclass(frozen=True, slots=True)
class NodeLease:
    """For how long a node may go on serving, by the directory's clock."""

    name: str
    until_s: float | None
    """When it is over (epoch s by that clock); None: none is known."""

    left_s: float | None
    """Seconds until then, negative afterwards."""

    is_lost: bool
    """It gets no other, see ``Directory.mark_lost``."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything that a directory holds, in one order: equal contents are equal directories."""

    default_domain: str | None = field(repr=False)
    domains: tuple[tuple[str, DomainLimits], ...] = field(repr=False)
    """With what each may have; there may be more, if it was limited later."""

    accounts: tuple[AccountRecord, ...] = field(repr=False)
    """Without what they have from their domains."""

    aliases: tuple[tuple[str, AccountId], ...] = field(repr=False)
    nodes: tuple[Node, ...] = ()

    @classmethod
    def of(
        cls,
        default_domain: str | None,
        domains: Mapping[str, DomainLimits],
        accounts: Iterable[AccountRecord],
        aliases: Iterable[tuple[str, AccountId]],
        nodes: Iterable[Node] = (),
    ) -> "Contents":
        """Put in order."""
        own = (replace(record, domain_quota_bytes=None) for record in accounts)
        return cls(
            default_domain,
            tuple(sorted(domains.items())),
            tuple(sorted(own, key=lambda record: record.name)),
            tuple(sorted(aliases)),
            tuple(sorted(nodes, key=lambda node: node.name)),
        )


class FileWatch(Protocol):
    """What ``on_change`` needs of :class:`mailstore.changes.Watcher`."""

    def watch(self, folder: Path, names: Collection[str], callback: Callable[[frozenset[str]], None]) -> None:
        """Call ``callback(changed)`` on the reactor soon after files of these names in ``folder`` change."""

    def from_any_thread(self, callback: Callable[[], None]) -> Callable[[], None]:
        """What any thread may call, so that ``callback`` is called on the reactor soon; not once it ended."""


class Directory(Protocol):
    """Which address belongs to which account. Any number of threads and processes may use it at once.

    All methods but ``on_change`` block: call them in threads. Any may raise StorageFailed, Busy,
    DirectoryUnavailable; those that change something StorageFull, OutcomeUnknown.
    """

    def close(self) -> None:
        """Let go of files and connections; the object may not be used afterwards."""

    def version(self) -> Hashable:
        """A value that differs from earlier ones once anything has changed, and may differ anyway; cheap."""

    def on_change(self, watch: FileWatch, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the reactor soon after any process changed the directory.

        ``watch`` belongs to the worker, and ends with it. Raises StorageFailed when it gives no watch.
        """

    def resolve(self, address: str | bytes) -> Recipient | None:
        """The account that mail for ``address`` goes to, None if there is none; never raises for odd text."""

    def login(self, name: str | bytes) -> AccountRecord | None:
        """The account whose name a client gave, None if there is none; never raises for odd text."""

    def login_name(self, name: str | bytes) -> str | None:
        """The name of the account meant by what a client gave, whether or not there is one; never raises for
        odd text. All spellings of a name give the same one; None if no account can have it."""

    def account(self, account_id: AccountId) -> AccountRecord | None:
        """The record of one account."""

    def settled_account(self, account_id: AccountId) -> AccountRecord | None:
        """As :meth:`account`, from the directory itself, once no change is under way that could still count.

        After OutcomeUnknown it says what became of the change. Raises Busy where that takes too long.
        """

    def accounts(self) -> list[AccountRecord]:
        """All accounts, sorted by name."""

    def add_account(self, record: AccountRecord) -> None:
        """Add an account, its name as an address, and its domain. Raises AccountExists, AddressInvalid,
        DomainFull, NoSuchNode."""

    def remove_account(self, account_id: AccountId) -> None:
        """Remove an account and its addresses; no error if it is gone already."""

    def set_disabled(self, account_id: AccountId, disabled: bool) -> None:
        """Lock or unlock an account. Raises NoSuchAccount."""

    def set_quota(self, account_id: AccountId, quota_bytes: int | None) -> None:
        """Set the account's own storage limit, None to have the domain's. Raises NoSuchAccount."""

    def set_pop3(self, account_id: AccountId, settings: Pop3Settings) -> None:
        """Set how the account uses POP3, from its next login on. Raises NoSuchAccount."""

    def largest_pop3_login_delay_s(self) -> int:
        """The greatest ``Pop3Settings.login_delay_s`` of any account; 0 when none has its own."""

    def advance_header_generation(self, account_id: AccountId, generation: int) -> None:
        """Remember that a header of this generation exists; never goes backwards."""

    def set_header(self, account_id: AccountId, public_key: PublicKey, generation: int) -> None:
        """Store public key and generation of a restored header, even an older one. Raises NoSuchAccount."""

    def aliases(self, account_id: AccountId | None = None) -> list[Alias]:
        """Addresses other than account names, sorted; of one account if given."""

    def add_alias(self, address: str, account_id: AccountId) -> None:
        """Add an address. Raises AddressInvalid, NoSuchDomain, AccountExists, DomainFull, NoSuchAccount."""

    def remove_alias(self, address: str) -> None:
        """Remove an address that is not an account's name. Raises NoSuchAddress."""

    def domains(self) -> list[str]:
        """All domains, sorted."""

    def add_domain(self, domain: str) -> None:
        """Add a domain; no error if it is there. The first one becomes the default. Raises AddressInvalid."""

    def limit_domain(self, domain: str, **changed: int | None) -> DomainLimits:
        """Set the limits that are named as in ``DomainLimits``; gives all that the domain has then.

        What is there already stays, even where it is more. Raises NoSuchDomain.
        """

    def domain_limits(self) -> dict[str, DomainLimits]:
        """The limits of the domains that have any."""

    def remove_domain(self, domain: str) -> None:
        """Remove a domain that no address uses. Raises NoSuchDomain, DomainInUse."""

    def default_domain(self) -> str | None:
        """The domain of a login name without one."""

    def set_default_domain(self, domain: str) -> None:
        """Choose it among the domains. Raises NoSuchDomain."""

    def nodes(self) -> list[Node]:
        """All nodes, sorted by name."""

    def put_node(self, node: Node, *, again: bool = False) -> None:
        """Add a node, or put another record in the place of its own.

        One that was lost stays so, unless it is added ``again``.

        Raises NodeNameInvalid.
        """

    def remove_node(self, name: str) -> None:
        """Remove a node that has no accounts. Raises NoSuchNode, NodeInUse."""

    def set_node(self, account_id: AccountId, node: str, generation: int) -> None:
        """Give an account to a node; ``generation`` has to be greater than the one before.

        Raises NoSuchAccount, NoSuchNode, NodeGenerationPast.
        """

    def leases(self) -> list[NodeLease]:
        """The lease of each node, sorted by name; none where the directory is not shared."""

    def begin_lease(self, name: str, lease_s: float) -> None:
        """Let a lease begin now of a node of which none is known: it may be serving all the same.

        Raises DirectoryNotShared, NoSuchNode.
        """

    def mark_lost(self, name: str) -> None:
        """Give a node no lease any more, so that its accounts can be taken from it.

        Raises DirectoryNotShared, NoSuchNode, NodeServes: the one that it has is not over, or not known.
        """

    def take_from_lost(self, account_id: AccountId, lost: str, node: str, header: Header) -> None:
        """Give an account of a lost node to another, which has this header; the generation grows by one.

        Raises DirectoryNotShared, NoSuchAccount, NoSuchNode, NodeNotLost, NodeGenerationPast: the account is
        not ``lost``'s any more.
        """

    def seeming_node(self, name: str | bytes) -> str | None:
        """The node that a login name nobody has seems to be on, the same for every node; None without nodes.

        So a stranger who is sent to another node does not learn that there is such an account. Never one that
        is marked as lost: its accounts go to others, and what stayed there would be known for nobody's.
        """

    def contents(self) -> Contents:
        """Everything, as it was at one moment."""

    def fill(self, contents: Contents) -> bool:
        """Put everything into an empty directory, all or nothing; False if exactly that is there already.

        Limits of domains are taken over, and refuse nothing of it.
        Raises DirectoryNotEmpty.
        """
