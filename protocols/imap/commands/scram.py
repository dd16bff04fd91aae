"""AUTHENTICATE by SCRAM-SHA-256 and SCRAM-SHA-256-PLUS; the exchange is ``protocols.scram_login``'s."""

from __future__ import annotations

from functools import partial

from mailstore.errors import AuthenticationFailed
from mailstore.model import AccessProtocol
from protocols import scram
from protocols.imap.commands.entering import ask_client, enter, failed, rejected
from protocols.imap.context import Answer, Context
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.grammar.session import Authenticate
from protocols.sasl import SaslError
from protocols.scram_login import ScramLogin


async def authenticate(ctx: Context, request: Authenticate) -> Answer:
    """The whole exchange, with or without initial response (RFC 3501 section 6.2.2, RFC 4959)."""
    binding = ctx.channel.channel_binding()
    if request.mechanism == scram.SCRAM_PLUS and binding is None:
        raise Disallowed(b"mechanism not supported on this connection", b"CANNOT")
    services = ctx.services
    login = ScramLogin(
        services.login, AccessProtocol.IMAP, ctx.address, partial(ask_client, ctx), binding, services.random
    )
    try:
        account = await login.run(request.mechanism, request.initial)
    except SaslError as error:
        raise rejected(ctx, error) from None
    except AuthenticationFailed:
        raise failed(ctx) from None
    return enter(ctx, account)
