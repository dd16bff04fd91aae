"""What a StoreError means to a mail client; each protocol has one table from meanings to words."""

from __future__ import annotations

from enum import Enum

from mailstore import errors


class Meaning(Enum):
    """What a failure means to the client."""

    LOGIN_FAILED = "wrong name or secret, whichever it is"
    TRY_LATER = "nothing is wrong with the request"
    IN_USE = "the account is in use for a moment"
    ALREADY_EXISTS = "the mailbox exists"
    NO_MAILBOX = "the mailbox does not exist"
    NO_MESSAGE = "the message is gone"
    BAD_NAME = "such a name is not possible"
    OWN_INFERIOR = "a mailbox cannot be moved below itself"
    INBOX_STAYS = "INBOX cannot be deleted"
    HAS_CHILDREN = "the mailbox has children"
    SPECIAL_USE = "the special-use attribute is taken"
    READ_ONLY = "only reading is allowed"
    OVER_QUOTA = "the account has no room for that"
    LIMIT = "a limit would be passed"
    TOO_LARGE = "the message is too large"
    ENDED = "the session has to end"
    FAULT = "ours to repair"
    OPERATOR = "the operator's to repair"


MEANINGS: dict[type[errors.StoreError], Meaning] = {
    errors.StoreError: Meaning.FAULT,
    errors.AuthenticationFailed: Meaning.LOGIN_FAILED,
    errors.ScopeDenied: Meaning.LOGIN_FAILED,
    errors.AccountDisabled: Meaning.LOGIN_FAILED,
    errors.TooManyLogins: Meaning.TRY_LATER,
    errors.AccountExists: Meaning.FAULT,
    errors.NoSuchAccount: Meaning.LOGIN_FAILED,
    errors.NoSuchAddress: Meaning.FAULT,
    errors.AdministrationRefused: Meaning.FAULT,
    errors.PasswordUnusable: Meaning.FAULT,
    errors.AddressInvalid: Meaning.FAULT,
    errors.NoSuchDomain: Meaning.FAULT,
    errors.DomainInUse: Meaning.FAULT,
    errors.DomainFull: Meaning.FAULT,
    errors.NotInitialised: Meaning.OPERATOR,
    errors.DirectoryNotEmpty: Meaning.FAULT,
    errors.ExportInvalid: Meaning.FAULT,
    errors.NodeNameInvalid: Meaning.FAULT,
    errors.NoSuchNode: Meaning.FAULT,
    errors.NodeInUse: Meaning.FAULT,
    errors.NodeGenerationPast: Meaning.FAULT,
    errors.NodeIsLost: Meaning.FAULT,
    errors.NodeWasLost: Meaning.FAULT,
    errors.NodeNotLost: Meaning.FAULT,
    errors.NodeServes: Meaning.FAULT,
    errors.OnAnotherNode: Meaning.TRY_LATER,
    errors.AccountMoving: Meaning.TRY_LATER,
    errors.DirectoryNotShared: Meaning.FAULT,
    errors.AlreadyThere: Meaning.FAULT,
    errors.MoveUnderWay: Meaning.FAULT,
    errors.MoveOver: Meaning.FAULT,
    errors.LeaseOver: Meaning.TRY_LATER,
    errors.LeaseRefused: Meaning.TRY_LATER,
    errors.NoSuchKeyslot: Meaning.FAULT,
    errors.NoSuchInvitation: Meaning.FAULT,
    errors.LastKeyslot: Meaning.FAULT,
    errors.HeaderTampered: Meaning.OPERATOR,
    errors.NoSuchMailbox: Meaning.NO_MAILBOX,
    errors.MailboxExists: Meaning.ALREADY_EXISTS,
    errors.MailboxNameInvalid: Meaning.BAD_NAME,
    errors.OwnInferior: Meaning.OWN_INFERIOR,
    errors.InboxStays: Meaning.INBOX_STAYS,
    errors.MailboxHasChildren: Meaning.HAS_CHILDREN,
    errors.SpecialUseTaken: Meaning.SPECIAL_USE,
    errors.ReadOnly: Meaning.READ_ONLY,
    errors.OverQuota: Meaning.OVER_QUOTA,
    errors.LimitExceeded: Meaning.LIMIT,
    errors.MessageTooLarge: Meaning.TOO_LARGE,
    errors.NoSuchMessage: Meaning.NO_MESSAGE,
    errors.Busy: Meaning.IN_USE,
    errors.KeysChanged: Meaning.IN_USE,
    errors.AccountClosed: Meaning.ENDED,
    errors.StorageFull: Meaning.TRY_LATER,
    errors.StorageFailed: Meaning.OPERATOR,
    errors.DatabaseDamaged: Meaning.OPERATOR,
    errors.ServerKeyLost: Meaning.OPERATOR,
    errors.DirectoryLost: Meaning.OPERATOR,
    errors.DirectoryEmpty: Meaning.OPERATOR,
    errors.DirectoryOutdated: Meaning.OPERATOR,
    errors.DirectoryRefused: Meaning.OPERATOR,
    errors.DirectoryKeyWrong: Meaning.OPERATOR,
    errors.DriverMissing: Meaning.OPERATOR,
    errors.DirectoryUnavailable: Meaning.TRY_LATER,
    errors.OutcomeUnknown: Meaning.TRY_LATER,
    errors.SealedMessageDamaged: Meaning.OPERATOR,
    errors.TooNew: Meaning.OPERATOR,
}


def is_for_operator(error: BaseException) -> bool:
    """Whether only the operator, or a change of the program, can help: then the log has to tell of it."""
    known = error if isinstance(error, errors.StoreError) else errors.StoreError()
    return meaning_of(known) in (Meaning.FAULT, Meaning.OPERATOR)


def meaning_of(error: errors.StoreError) -> Meaning:
    """The meaning of the nearest base class in the table; ``StoreError`` itself is the last resort."""
    for kind in type(error).__mro__:
        meaning = MEANINGS.get(kind)
        if meaning is not None:
            return meaning
    raise AssertionError("StoreError is in the table")
