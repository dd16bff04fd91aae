"""Which handler answers which request; a test checks that none is missing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from protocols.imap.commands import (
    append,
    batch,
    enable,
    fetch,
    idle,
    live_search,
    login,
    mailbox,
    messages,
    metadata,
    multisearch,
    notify,
    rights,
    search,
    select,
    store,
    unauthenticate,
)
from protocols.imap.context import Answer, Context
from protocols.imap.grammar.append import Append, Replace
from protocols.imap.grammar.fetch import Fetch
from protocols.imap.grammar.mailbox import (
    Create,
    Delete,
    GetQuota,
    GetQuotaRoot,
    List,
    Lsub,
    Rename,
    SetQuota,
    Status,
    Subscribe,
    Unsubscribe,
)
from protocols.imap.grammar.messages import Copy, Expunge, Move, Store, UidBatches
from protocols.imap.grammar.metadata import GetMetadata, SetMetadata
from protocols.imap.grammar.notify import Notify
from protocols.imap.grammar.rights import ChangeAcl, GetAcl, ListRights, MyRights
from protocols.imap.grammar.search import CancelUpdate, MultiSearch, RefusedSearch, Search, Thread
from protocols.imap.grammar.select import Close, Select, Unselect
from protocols.imap.grammar.session import (
    Authenticate,
    Capability,
    Check,
    Compress,
    Enable,
    Identify,
    Idle,
    Login,
    Logout,
    Namespace,
    Noop,
    StartTls,
    Unauthenticate,
)
from protocols.imap.grammar.table import Request

# Any: each handler takes the one request type it is listed under.
Handler = Callable[[Context, Any], Awaitable[Answer]]

HANDLERS: dict[type[Request], Handler] = {
    Capability: login.capability,
    Noop: login.noop,
    Check: login.noop,
    Logout: login.logout,
    StartTls: login.start_tls,
    Authenticate: login.authenticate,
    Login: login.login,
    Unauthenticate: unauthenticate.unauthenticate,
    Identify: login.identify,
    Enable: enable.enable,
    Compress: login.compress,
    Create: mailbox.create,
    Delete: mailbox.delete,
    Rename: mailbox.rename,
    Subscribe: mailbox.subscribe,
    Unsubscribe: mailbox.unsubscribe,
    List: mailbox.list_mailboxes,
    Lsub: mailbox.lsub,
    Namespace: mailbox.namespace,
    Status: mailbox.status,
    Append: append.append,
    GetQuota: mailbox.get_quota,
    GetQuotaRoot: mailbox.get_quota_root,
    SetQuota: mailbox.set_quota,
    MyRights: rights.my_rights,
    GetAcl: rights.get_acl,
    ListRights: rights.list_rights,
    ChangeAcl: rights.change_acl,
    Replace: append.replace,
    GetMetadata: metadata.get_metadata,
    SetMetadata: metadata.set_metadata,
    Notify: notify.notify,
    Select: select.select,
    Close: select.close,
    Unselect: select.unselect,
    Expunge: messages.expunge,
    Store: store.store,
    UidBatches: batch.uid_batches,
    Copy: messages.copy,
    Move: messages.move,
    Idle: idle.idle,
    Search: live_search.live_search,
    CancelUpdate: live_search.cancel_update,
    RefusedSearch: search.refused_search,
    MultiSearch: multisearch.multisearch,
    Thread: search.thread,
    Fetch: fetch.fetch,
}
