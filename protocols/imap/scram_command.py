"""AUTHENTICATE by SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677, 9266).

Only app passwords can be used so; for any other secret the proof fits no keyslot, and the client
hears what it hears of an unknown user.
"""

from __future__ import annotations

from mailstore.errors import AuthenticationFailed
from protocols import scram
from protocols.imap import requests as ask
from protocols.imap.context import Answer, Context
from protocols.imap.entering import ask_client, enter, failed, rejected
from protocols.imap.refusal import Disallowed, Malformed
from protocols.sasl import SaslError, decode_response
from protocols.store_api import AccountApi


async def authenticate(ctx: Context, request: ask.Authenticate) -> Answer:
    """The whole exchange; the account is entered when the client has seen our proof too."""
    binding = ctx.channel.channel_binding()
    plus = request.mechanism == scram.SCRAM_PLUS
    named = ctx.services.login.limits.list_scram
    if plus and binding is None:
        raise Disallowed(b"mechanism not supported on this connection", b"CANNOT")
    try:
        if request.initial is None:
            message = await ask_client(ctx, b"")
        else:
            message = decode_response(request.initial)
        first = scram.client_first(message, request.mechanism, named and binding is not None)
        attempt = await ctx.services.login.begin(ctx.address, first.name)
        setup = await ctx.services.login.scram_setup(attempt)
        challenge = scram.server_first(first, setup, ctx.services.random(scram.NONCE_BYTES))
        message = await ask_client(ctx, challenge)
        exchange = scram.client_final(message, first, challenge, binding if plus else None)
        account, signature = await ctx.services.login.login_scram(attempt, exchange, "imap")
    except SaslError as error:
        raise rejected(ctx, error) from None
    except (AuthenticationFailed, scram.BindingFailed):
        raise failed(ctx) from None
    return await _confirmed(ctx, account, signature)


async def _confirmed(ctx: Context, account: AccountApi, signature: bytes) -> Answer:
    """Let the client check us; IMAP has no success with data, so it answers with an empty line."""
    try:
        if await ask_client(ctx, scram.server_final(signature)):
            raise Malformed(b"empty response expected")
    except SaslError as error:
        account.release()
        raise rejected(ctx, error) from None
    except BaseException:
        account.release()
        raise
    return enter(ctx, account)
