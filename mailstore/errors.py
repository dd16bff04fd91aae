"""The StoreError tree: everything the store may raise on purpose. No wire words here.

Each protocol translates these in one table; a test walks all subclasses. Texts are fixed and never
contain names, addresses, content or key material.
"""


class StoreError(Exception):
    """Base of every error that a caller of the store is meant to handle."""


class AuthenticationFailed(StoreError):
    """No keyslot opened: wrong secret, unknown account, revoked or expired slot; never says which."""


class ScopeDenied(AuthenticationFailed):
    """The secret is right but its keyslot is not for this protocol or is past its date."""


class AccountDisabled(AuthenticationFailed):
    """The operator has locked the account."""


class TooManyLogins(StoreError):
    """The queue for key derivation is full; the same login may succeed later."""


class AccountExists(StoreError):
    """An account or alias with that name is there already."""


class NoSuchAccount(StoreError):
    """The directory knows no such account (administration only, never told to a mail client)."""


class NoSuchKeyslot(StoreError):
    """The account has no keyslot with that id."""


class NoSuchInvitation(StoreError):
    """No invitation has that id: it was used, has run out, or there never was one."""


class LastKeyslot(StoreError):
    """Removing this keyslot would leave no way to administer the account."""


class HeaderTampered(StoreError):
    """The key header's authentication tag does not match its content, or it is malformed."""


class NoSuchMailbox(StoreError):
    """The account has no mailbox with that name."""


class MailboxExists(StoreError):
    """The account has a mailbox with that name already."""


class MailboxNameInvalid(StoreError):
    """The name cannot be used for a mailbox (empty part, control character, too long)."""


class InboxStays(MailboxNameInvalid):
    """INBOX cannot be deleted."""


class OwnInferior(MailboxNameInvalid):
    """A mailbox cannot become its own inferior."""


class MailboxHasChildren(StoreError):
    """The mailbox cannot be deleted in this way because it has inferiors."""


class SpecialUseTaken(StoreError):
    """Another mailbox has this special-use attribute, or the attribute is unknown (RFC 6154)."""


class ReadOnly(StoreError):
    """The mailbox or the keyslot allows reading only."""


class OverQuota(StoreError):
    """The change would take the account over its storage or message limit."""


class LimitExceeded(StoreError):
    """A named limit (keywords, mailboxes, subscriptions ...) would be passed."""


class MessageTooLarge(LimitExceeded):
    """The message is larger than the configured limit."""


class NoSuchMessage(StoreError):
    """The message was expunged meanwhile."""


class Busy(StoreError):
    """Another process holds a lock for longer than we wait; the caller may try again."""


class KeysChanged(Busy):
    """The account has got a new master key since it was unlocked: who logs in again has it."""


class AccountClosed(StoreError):
    """The account was closed (deleted, key revoked, shutdown) while the operation waited."""


class StorageFull(StoreError):
    """The disk is full; nothing was changed."""


class StorageFailed(StoreError):
    """Input/output error, damaged file or an unexpected database error; the cause is in the log."""


class DatabaseDamaged(StorageFailed):
    """A database has pages that are not what was written, or belongs to another key; the log names it."""


class ServerKeyLost(StorageFailed):
    """There are accounts or a directory, and the server's key is not there, or is no key."""


class DirectoryLost(StorageFailed):
    """There are accounts, and no directory that knows them."""


class DirectoryEmpty(DirectoryLost):
    """The database that is said to have the directory has none."""


class DirectoryOutdated(StorageFailed):
    """The database has the directory of an earlier version, which has yet to be brought up to date."""


class DirectoryRefused(StorageFailed):
    """The database of the directory refuses what its role wants to do; the cause is in the log."""


class DirectoryKeyWrong(StorageFailed):
    """The directory is sealed with another key than the one that was given, or that file has none."""


class DriverMissing(StorageFailed):
    """The directory is in a database whose driver is not installed."""


class OnAnotherNode(StoreError):
    """Another node has the account, or none that is known; only that one may open it, or take mail for it.

    ``node`` is the one that can be asked whether a secret is right: also for some names that nobody has.
    ``account`` is the account's name, None if there is none. Neither is in the text.
    """

    def __init__(self, *args: object, node: str | None = None, account: str | None = None) -> None:
        super().__init__(*args)
        self.node = node
        self.account = account


class AccountMoving(Busy):
    """The account is closed because it is on its way to another node, for seconds."""


class LeaseOver(StoreError):
    """This node's lease is over: others may have its accounts by now. None is opened until it is renewed."""


class LeaseRefused(LeaseOver):
    """It is not renewed either: the directory has no such node, or it was lost. An operator has to help."""


class DirectoryUnavailable(StoreError):
    """The database of the directory does not answer now; what is asked may succeed later."""


class OutcomeUnknown(DirectoryUnavailable):
    """The connection was lost while a change was being committed, so it may have happened or not."""


class SealedMessageDamaged(StoreError):
    """A sealed message cannot be opened with the account's private key, or is cut short."""


class TooNew(StoreError):
    """The database was written by a newer program than this one understands."""


class AdministrationRefused(StoreError):
    """An administrator's or owner's request cannot be carried out as it stands."""


class PasswordUnusable(AdministrationRefused):
    """The text cannot be a password: empty, too long, not UTF-8, NUL, or the form of a generated one."""


class AddressInvalid(AdministrationRefused):
    """The text cannot be an address, a domain or a label here."""


class NoSuchDomain(AdministrationRefused):
    """The directory has no such domain."""


class DomainInUse(AdministrationRefused):
    """The domain still has accounts or aliases."""


class DomainFull(AdministrationRefused):
    """The domain has as many accounts, or as many aliases, as it may have."""


class NoSuchAddress(AdministrationRefused):
    """The directory has no such alias."""


class NodeNameInvalid(AdministrationRefused):
    """The text cannot be the name of a node, or not the address of one or of a door of it."""


class NoSuchNode(AdministrationRefused):
    """The directory has no such node."""


class NodeInUse(AdministrationRefused):
    """The node still has accounts."""


class NodeGenerationPast(AdministrationRefused):
    """The account has come to a node at this generation, or a later one, already."""


class DirectoryNotShared(AdministrationRefused):
    """This needs a directory that several nodes share, and a name of this one."""


class AlreadyThere(AdministrationRefused):
    """The node that the account is to go to has it."""


class MoveUnderWay(AdministrationRefused):
    """The account is being moved already."""


class MoveOver(AdministrationRefused):
    """The move has ended: it was cancelled, has failed, or the account has arrived."""


class NodeIsLost(AdministrationRefused):
    """The node was marked as lost, so it gets no lease until an operator adds it again."""


class NodeWasLost(NodeIsLost):
    """The node was marked as lost and added again while a process of it heard nothing; it has to end."""


class NodeNotLost(AdministrationRefused):
    """The node is not marked as lost: it may be serving the accounts that were to be taken from it."""


class NodeServes(AdministrationRefused):
    """The node has a lease that is not over."""


class NotInitialised(AdministrationRefused):
    """The data root has no server key or no directory."""


class DirectoryNotEmpty(AdministrationRefused):
    """A directory that is to be filled has other entries already."""


class ExportInvalid(AdministrationRefused):
    """What is to fill a directory is not the export of one, or was cut short."""
