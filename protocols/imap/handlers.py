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
from protocols.imap import requests as ask
from protocols.imap.append_requests import Append, Replace
from protocols.imap.context import Answer, Context
from protocols.imap.metadata_requests import GetMetadata, SetMetadata
from protocols.imap.notify_requests import Notify
from protocols.imap.rights_requests import ChangeAcl, GetAcl, ListRights, MyRights
from protocols.imap.search_requests import CancelUpdate, MultiSearch, RefusedSearch, Search, Thread

# Any: each handler takes the one request type it is listed under.
Handler = Callable[[Context, Any], Awaitable[Answer]]

HANDLERS: dict[type[ask.Request], Handler] = {
    ask.Capability: login_commands.capability,
    ask.Noop: login_commands.noop,
    ask.Check: login_commands.noop,
    ask.Logout: login_commands.logout,
    ask.StartTls: login_commands.start_tls,
    ask.Authenticate: login_commands.authenticate,
    ask.Login: login_commands.login,
    ask.Unauthenticate: unauthenticate_command.unauthenticate,
    ask.Identify: login_commands.identify,
    ask.Enable: enable_command.enable,
    ask.Compress: login_commands.compress,
    ask.Create: mailbox_commands.create,
    ask.Delete: mailbox_commands.delete,
    ask.Rename: mailbox_commands.rename,
    ask.Subscribe: mailbox_commands.subscribe,
    ask.Unsubscribe: mailbox_commands.unsubscribe,
    ask.List: mailbox_commands.list_mailboxes,
    ask.Lsub: mailbox_commands.lsub,
    ask.Namespace: mailbox_commands.namespace,
    ask.Status: mailbox_commands.status,
    Append: append_commands.append,
    ask.GetQuota: mailbox_commands.get_quota,
    ask.GetQuotaRoot: mailbox_commands.get_quota_root,
    ask.SetQuota: mailbox_commands.set_quota,
    MyRights: rights_commands.my_rights,
    GetAcl: rights_commands.get_acl,
    ListRights: rights_commands.list_rights,
    ChangeAcl: rights_commands.change_acl,
    Replace: append_commands.replace,
    GetMetadata: metadata_commands.get_metadata,
    SetMetadata: metadata_commands.set_metadata,
    Notify: notify_command.notify,
    ask.Select: selected_commands.select,
    ask.Close: selected_commands.close,
    ask.Unselect: selected_commands.unselect,
    ask.Expunge: selected_commands.expunge,
    ask.Store: store_command.store,
    ask.UidBatches: batch_command.uid_batches,
    ask.Copy: selected_commands.copy,
    ask.Move: selected_commands.move,
    ask.Idle: selected_commands.idle,
    Search: live_search.live_search,
    CancelUpdate: live_search.cancel_update,
    RefusedSearch: search_command.refused_search,
    MultiSearch: multisearch.multisearch,
    Thread: search_command.thread,
    ask.Fetch: fetch_command.fetch,
}
