"""Asking the node that has an account whether a password is right: AUTH (RFC 4954) at its door for nodes.

Name and password are in the memory of both nodes, and nowhere else. XCLIENT says whose they are, so that the
other node slows down who guesses, and not the node that asks.
"""

from __future__ import annotations

from base64 import b64encode

from mailstore.errors import AuthenticationFailed, OnAnotherNode
from protocols.envelope import replies
from protocols.envelope.grammar import xclient
from protocols.envelope.replies import Reply
from protocols.lmtp.dialogue import Dialogue, Unanswered
from protocols.lmtp.nodes import Errands, Nodes
from protocols.sites import site_of

_ANSWERS = {one.code for one in (replies.AUTHENTICATED, replies.WRONG_CREDENTIALS, replies.CANNOT_CHECK_NOW)}
_UNREADABLE = {(one.code, one.status) for one in (replies.LINE_TOO_LONG, replies.BAD_RESPONSE)}
"""What it says to a name and a password that cannot be any there, as where its limits are lower than ours:
who gave them has had an attempt, and the node is not away."""


class NodePasswords:
    """See ``protocols.login.OtherNodes``."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._errands = Errands(
            nodes,
            "does not check the passwords of its accounts (%s): who wants to send mail tries again",
            "checks passwords again",
        )

    async def prove_for_smtp(self, node: str, address: str, name: bytes, secret: bytes) -> None:
        """See ``OtherNodes``."""

        async def ask(dialogue: Dialogue) -> Reply:
            """What the node says to it. Raises Unanswered."""
            dialogue.send(xclient(address))
            await dialogue.positive()
            dialogue.send(self._nodes.greeting)
            await dialogue.positive()
            dialogue.send(b"AUTH PLAIN %b\r\n" % b64encode(b"\0%b\0%b" % (name, secret)))
            reply = await dialogue.reply()
            if (reply.code, reply.status) in _UNREADABLE:
                return replies.WRONG_CREDENTIALS
            if reply.code not in _ANSWERS:
                raise Unanswered(f"it answers {reply.code}")
            return reply

        # Not a partial, whose repr would tell what it was given.
        reply = await self._errands.run(node, ask, site_of(address))
        if reply is None or reply.code == replies.CANNOT_CHECK_NOW.code:
            raise OnAnotherNode("the node of the account cannot say now")
        if not reply.positive:
            raise AuthenticationFailed("authentication failed")
