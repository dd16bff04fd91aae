"""The BackupError tree: everything the backup room may raise on purpose. Texts never hold names of users."""

from __future__ import annotations

from collections.abc import Sequence


class BackupError(Exception):
    """Base of every error that a caller of this package is meant to handle."""


class SegmentDamaged(BackupError):
    """An object is not what was written: flipped, cut, moved, exchanged or forged. ``key`` names it."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key
        self.why = why


class ChainBroken(BackupError):
    """A snapshot needs an object that is missing or does not follow from the one before. ``key`` names it."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key
        self.why = why


class ChainLinkBroken(ChainBroken):
    """The object says that it builds on another object than the one before it."""


class KeyFileInvalid(BackupError):
    """A file is not a backup key of the kind that was asked for."""


class SigningKeyReplaced(BackupError):
    """The given signing key names a successor, with which the newest snapshots are signed."""


class WrongKey(BackupError):
    """The snapshots are sealed to another key pair."""


class NothingToRestore(BackupError):
    """There is no snapshot of that account, or none as old as was asked for."""


class NothingSound(NothingToRestore):
    """No snapshot gives a sound state; ``passed_over`` says of each why."""

    def __init__(self, passed_over: Sequence[str]) -> None:
        super().__init__("no state of this account is sound")
        self.passed_over = tuple(passed_over)


class KeysDamaged(BackupError):
    """The key header of a snapshot opens nothing, and no other may take its place."""


class SecretOfThen(BackupError):
    """A state is from before the account got a new master key, and neither secret is one of then."""

    def __init__(self) -> None:
        super().__init__(
            "this state is from before the account got a new master key: it opens with the password or the"
            " recovery key of then"
        )


class AccountInUse(BackupError):
    """Sessions keep the account open and did not end in time."""


class MailIsThere(BackupError):
    """The account has lost its key header and still holds mail, and replacing it was not asked for."""


class ImageUnreadable(BackupError):
    """The files of an account are not a database of this program, or a damaged one."""


class ObjectStoreError(BackupError):
    """Base of what an object store reports."""


class StoreUnavailable(ObjectStoreError):
    """No answer, or one that says to try again later."""


class StoreRefused(ObjectStoreError):
    """The store refuses: credentials, permissions, bucket, or a rule that forbids it."""


class OtherStore(StoreRefused):
    """The snapshots of another node lie in a store that this node does not know."""


class ObjectMissing(ObjectStoreError):
    """There is no object of that name."""


class ObjectExists(ObjectStoreError):
    """There is an object of that name already; nothing was changed."""


class ForeignObjects(ObjectStoreError):
    """Another server's snapshots lie under this prefix."""
