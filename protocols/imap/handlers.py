"""Which handler answers which request; a test sees to it that none is missing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from protocols.imap import (
    append_commands,
    batch_command,
    enable_command,
    fetch_command,
    live_search,
    login_commands,
    mailbox_commands,
    metadata_commands,
    multisearch,
    notify_command,
    rights_commands,
    search_command,
    selected_commands,
    store_command,
    unauthenticate_command,
)
from protocols.imap.context import Answer, Context
from protocols.imap.grammar.append import Append, Replace
from protocols.imap.grammar.fetch import Copy, Expunge, Fetch, Move, Store, UidBatches
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
    Capability: login_commands.capability,
    Noop: login_commands.noop,
    Check: login_commands.noop,
    Logout: login_commands.logout,
    StartTls: login_commands.start_tls,
    Authenticate: login_commands.authenticate,
    Login: login_commands.login,
    Unauthenticate: unauthenticate_command.unauthenticate,
    Identify: login_commands.identify,
    Enable: enable_command.enable,
    Compress: login_commands.compress,
    Create: mailbox_commands.create,
    Delete: mailbox_commands.delete,
    Rename: mailbox_commands.rename,
    Subscribe: mailbox_commands.subscribe,
    Unsubscribe: mailbox_commands.unsubscribe,
    List: mailbox_commands.list_mailboxes,
    Lsub: mailbox_commands.lsub,
    Namespace: mailbox_commands.namespace,
    Status: mailbox_commands.status,
    Append: append_commands.append,
    GetQuota: mailbox_commands.get_quota,
    GetQuotaRoot: mailbox_commands.get_quota_root,
    SetQuota: mailbox_commands.set_quota,
    MyRights: rights_commands.my_rights,
    GetAcl: rights_commands.get_acl,
    ListRights: rights_commands.list_rights,
    ChangeAcl: rights_commands.change_acl,
    Replace: append_commands.replace,
    GetMetadata: metadata_commands.get_metadata,
    SetMetadata: metadata_commands.set_metadata,
    Notify: notify_command.notify,
    Select: selected_commands.select,
    Close: selected_commands.close,
    Unselect: selected_commands.unselect,
    Expunge: selected_commands.expunge,
    Store: store_command.store,
    UidBatches: batch_command.uid_batches,
    Copy: selected_commands.copy,
    Move: selected_commands.move,
    Idle: selected_commands.idle,
    Search: live_search.live_search,
    CancelUpdate: live_search.cancel_update,
    RefusedSearch: search_command.refused_search,
    MultiSearch: multisearch.multisearch,
    Thread: search_command.thread,
    Fetch: fetch_command.fetch,
}
