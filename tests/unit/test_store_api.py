"""The store and its double are what the protocols ask for; checked by mypy, run for the import."""

from __future__ import annotations

from mailstore import mailbox, store
from protocols.store_api import AccountApi, MailboxApi, StoreApi
from tests import memory_mailbox, memory_store


def stores(real: store.MailStore, double: memory_store.MemoryStore) -> tuple[StoreApi, ...]:
    """Both can log in."""
    return real, double


def accounts(real: store.Account, double: memory_store.AccountSession) -> tuple[AccountApi, ...]:
    """Both are accounts."""
    return real, double


def mailboxes(real: mailbox.Mailbox, double: memory_mailbox.SelectedMailbox) -> tuple[MailboxApi, ...]:
    """Both are mailboxes."""
    return real, double


def test_every_method_is_there() -> None:
    """What the interfaces name exists on both sides, also without a type checker."""
    for api, kinds in [
        (StoreApi, (store.MailStore, memory_store.MemoryStore)),
        (AccountApi, (store.Account, memory_store.AccountSession)),
        (MailboxApi, (mailbox.Mailbox, memory_mailbox.SelectedMailbox)),
    ]:
        names = {name for name in vars(api) if not name.startswith("_") and callable(vars(api)[name])}
        for kind in kinds:
            assert names - set(dir(kind)) == set()
