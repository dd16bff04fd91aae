"""What the tests of directories have in common."""

from mailstore.directory import AccountRecord
from mailstore.keys import AccountId, PublicKey

JOE, ANN = AccountId("a" * 32), AccountId("b" * 32)


def record(account_id=JOE, name="joe@example.org", quota=None):
    """A directory entry."""
    return AccountRecord(account_id, name, PublicKey(b"key of " + account_id.encode()), 1, quota, 5, False)
