"""What commands say of an error of the store: one sentence with what to do, and an exit code.

Exit codes, the same for every command:

    0   done
    1   unexpected error (a bug: please report it)
    2   wrong usage
    3   refused: unknown, already exists, still in use, malformed, over a limit
    4   wrong secret, or one that may not do this
    5   busy: try again
    6   disk full, input/output error or damaged file
    7   the key header was changed behind the program's back, or a newer program wrote the data
"""

from pathlib import Path

from deploy.config_directory import DRIVER_MISSING
from mailstore.damage import FULL_SECTION, GUIDE, NODES_SECTION, POSTGRESQL_SECTION, SERVER_SECTION
from mailstore.errors import (
    AccountDisabled,
    AccountExists,
    AccountMoving,
    AddressInvalid,
    AlreadyThere,
    AuthenticationFailed,
    Busy,
    DatabaseDamaged,
    DirectoryEmpty,
    DirectoryKeyWrong,
    DirectoryLost,
    DirectoryNotEmpty,
    DirectoryNotShared,
    DirectoryOutdated,
    DirectoryRefused,
    DirectoryUnavailable,
    DomainFull,
    DomainInUse,
    DriverMissing,
    ExportInvalid,
    HeaderTampered,
    KeysChanged,
    LastKeyslot,
    LeaseOver,
    LeaseRefused,
    LimitExceeded,
    MoveOver,
    MoveUnderWay,
    NodeGenerationPast,
    NodeInUse,
    NodeIsLost,
    NodeNameInvalid,
    NodeNotLost,
    NodeServes,
    NoSuchAccount,
    NoSuchAddress,
    NoSuchDomain,
    NoSuchInvitation,
    NoSuchKeyslot,
    NoSuchMailbox,
    NoSuchNode,
    NotInitialised,
    OnAnotherNode,
    OutcomeUnknown,
    OverQuota,
    PasswordUnusable,
    ScopeDenied,
    ServerKeyLost,
    StorageFailed,
    StorageFull,
    StoreError,
    TooManyLogins,
    TooNew,
)
from mailstore.room import volume_of

EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_SECRET = 4
EXIT_BUSY = 5
EXIT_STORAGE = 6
EXIT_TAMPERED = 7

# The most specific class first: the first match counts.
SENTENCES: tuple[tuple[type[StoreError], int, str], ...] = (
    (ScopeDenied, EXIT_SECRET, "this secret may not do that: use the password or the recovery key"),
    (AccountDisabled, EXIT_SECRET, "the account is disabled: run 'sealbox account enable' first"),
    (AuthenticationFailed, EXIT_SECRET, "wrong name or secret: check both and try again"),
    (AccountExists, EXIT_REFUSED, "that address is taken: choose another one or delete what uses it"),
    (NoSuchAccount, EXIT_REFUSED, "there is no such account: see 'sealbox account list'"),
    (NoSuchDomain, EXIT_REFUSED, "there is no such domain: add it with 'sealbox domain add'"),
    (DomainInUse, EXIT_REFUSED, "the domain still has addresses: delete its accounts and aliases first"),
    (
        DomainFull,
        EXIT_REFUSED,
        "the domain has as many accounts or aliases as it may: 'sealbox domain list' shows how many that is,"
        " 'sealbox domain limit' raises it",
    ),
    (NoSuchAddress, EXIT_REFUSED, "there is no such alias: see 'sealbox alias list'"),
    (NoSuchKeyslot, EXIT_REFUSED, "there is no such app password: see 'sealbox app-password list'"),
    (
        NoSuchInvitation,
        EXIT_REFUSED,
        "there is no such invitation: it was used, has run out, or see 'sealbox invite --list'",
    ),
    (LastKeyslot, EXIT_REFUSED, "that is the account's last keyslot: add another one first"),
    (AddressInvalid, EXIT_REFUSED, "that is not a usable address, domain or label: check the spelling"),
    (PasswordUnusable, EXIT_REFUSED, "that text cannot be a password: choose another one, in UTF-8"),
    (NotInitialised, EXIT_REFUSED, "there is no data here yet: check --data, or add the first account"),
    (LimitExceeded, EXIT_REFUSED, "the account has too many of these: remove one first"),
    (
        OverQuota,
        EXIT_REFUSED,
        "the account is full: what fitted is there; make room or raise its limits, and run it again",
    ),
    (NoSuchMailbox, EXIT_BUSY, "a mailbox was deleted meanwhile: run it again"),
    (KeysChanged, EXIT_BUSY, "the account has got a new master key meanwhile: run it again"),
    (
        AccountMoving,
        EXIT_BUSY,
        "the account is being moved to another node: wait until it is there, or end that with 'sealbox"
        " account move ACCOUNT --cancel'",
    ),
    (Busy, EXIT_BUSY, "another process holds the lock: try again in a moment"),
    (TooManyLogins, EXIT_BUSY, "not enough memory for key derivation: try again in a moment"),
    (StorageFull, EXIT_STORAGE, f'the disk is full: make room and try again, see {GUIDE}, "{FULL_SECTION}"'),
    (
        ServerKeyLost,
        EXIT_STORAGE,
        "server.key is missing or damaged, though there is a directory or accounts:"
        f' see {GUIDE}, "{SERVER_SECTION}"',
    ),
    (
        DirectoryEmpty,
        EXIT_STORAGE,
        "the database of [directory] url has no directory: check the url, or fill it with 'sealbox directory"
        " import'; on a new server 'sealbox account add' or 'sealbox domain add' makes it: see"
        f' {GUIDE}, "{POSTGRESQL_SECTION}"',
    ),
    (
        DirectoryOutdated,
        EXIT_STORAGE,
        "the directory in PostgreSQL is that of an earlier version: start 'sealbox serve' of this one, which"
        f' brings it up to date, and upgrade all nodes: see {GUIDE}, "{POSTGRESQL_SECTION}"',
    ),
    (
        DirectoryKeyWrong,
        EXIT_STORAGE,
        "the directory in PostgreSQL is sealed with another key, or [directory] key_file cannot be read, or"
        f' has no key: see {GUIDE}, "{POSTGRESQL_SECTION}"',
    ),
    (
        DirectoryRefused,
        EXIT_STORAGE,
        "the role of [directory] url lacks a right in PostgreSQL: let it own the database, see"
        f' {GUIDE}, "{POSTGRESQL_SECTION}"',
    ),
    (DriverMissing, EXIT_STORAGE, DRIVER_MISSING),
    (
        OnAnotherNode,
        EXIT_REFUSED,
        "another node has this account, 'sealbox account list' says which: run it there; an account without"
        " one is taken by 'sealbox node claim' on the server that has its folder",
    ),
    (
        LeaseRefused,
        EXIT_REFUSED,
        "this server gets no lease, so it may open no account: it was marked as lost, or its [node] name is"
        f" not in the directory. 'sealbox node list' shows which, see {GUIDE}, \"{NODES_SECTION}\"",
    ),
    (
        LeaseOver,
        EXIT_BUSY,
        "this server's lease is over, so it may open no account until it reaches PostgreSQL again:"
        f" 'sealbox node list' shows all leases, see {GUIDE}, \"{NODES_SECTION}\"",
    ),
    (
        NodeIsLost,
        EXIT_REFUSED,
        "the node was marked as lost by 'sealbox node recover': 'sealbox node add NAME HOST:PORT"
        " --again' adds it again",
    ),
    (
        NodeNotLost,
        EXIT_REFUSED,
        "the node was added again meanwhile, so it has its accounts: 'sealbox node list' shows all leases",
    ),
    (
        NodeServes,
        EXIT_BUSY,
        "the node's lease is not over: stop it, and try again when 'sealbox node list' says so",
    ),
    (
        DirectoryNotShared,
        EXIT_REFUSED,
        "the directory has to be in PostgreSQL, and the server to have a [node] name:"
        f' see {GUIDE}, "{NODES_SECTION}"',
    ),
    (
        NodeNameInvalid,
        EXIT_REFUSED,
        "a node is called by lower-case letters, digits and hyphens, and reached at HOST:PORT, by a proxy at"
        " IP:PORT or [IPv6 address]:PORT",
    ),
    (
        NoSuchNode,
        EXIT_REFUSED,
        "there is no such node: 'sealbox node list' shows all, 'sealbox node add NAME HOST:PORT' adds one",
    ),
    (AlreadyThere, EXIT_REFUSED, "the account is on that node already"),
    (
        MoveUnderWay,
        EXIT_REFUSED,
        "the account is being moved already: wait, or end that with 'sealbox account move ACCOUNT --cancel'",
    ),
    (MoveOver, EXIT_BUSY, "the move has ended meanwhile: look where the account is now"),
    (NodeInUse, EXIT_REFUSED, "the node still has accounts: see 'sealbox account list'"),
    (NodeGenerationPast, EXIT_BUSY, "the account was given to a node meanwhile: look where it is now"),
    (
        OutcomeUnknown,
        EXIT_BUSY,
        "the connection to PostgreSQL was lost in the midst of it: look whether it was done, and try again",
    ),
    (
        DirectoryUnavailable,
        EXIT_BUSY,
        "the directory's PostgreSQL cannot be reached or refuses the connection, the line above says why:"
        f' see {GUIDE}, "{POSTGRESQL_SECTION}"',
    ),
    (
        DirectoryNotEmpty,
        EXIT_REFUSED,
        "that directory has other accounts or domains already: only an empty one can be filled",
    ),
    (
        ExportInvalid,
        EXIT_REFUSED,
        "that is no export of a directory, or it was cut short or changed: export it again",
    ),
    (
        DirectoryLost,
        EXIT_STORAGE,
        f'directory.db is missing, though there are accounts: see {GUIDE}, "{SERVER_SECTION}"',
    ),
    (DatabaseDamaged, EXIT_STORAGE, f"a database is damaged, the line above says which: see {GUIDE}"),
    (
        StorageFailed,
        EXIT_STORAGE,
        "the data could not be read or written: check the disk, and who owns each file of the data root",
    ),
    (HeaderTampered, EXIT_TAMPERED, "the key header is not the one this program wrote: restore it"),
    (TooNew, EXIT_TAMPERED, "a newer program wrote this data: upgrade this one"),
)


def explain(error: StoreError, root: Path | None = None) -> tuple[str, int]:
    """The sentence and the exit code for an error of the store; ``root`` is where the data are."""
    for kind, exit_code, sentence in SENTENCES:
        if isinstance(error, kind):
            if kind is StorageFull and root is not None:
                sentence += f" (the data: {volume_of(root)})"
            if kind is NotInitialised and root is not None:
                sentence = sentence.replace("here yet", f"in {root.absolute()} yet")
            return sentence, exit_code
    return "unexpected error of the store: please report it", 1
