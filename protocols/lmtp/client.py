"""Bringing mail to the node that has its account, by LMTP over mutual TLS; nothing of it touches the disk.

The other end is this program, too: commands are sent in one go (PIPELINING, RFC 2920), and the message as one
chunk (BDAT, RFC 3030), so that it arrives octet for octet. A connection carries one transaction.
"""

from __future__ import annotations

from functools import partial

from protocols.envelope import replies
from protocols.envelope.onward import OnwardMail
from protocols.envelope.replies import Reply
from protocols.lmtp.dialogue import Dialogue
from protocols.lmtp.nodes import Errands, Nodes


class NodeMail:
    """See ``Onward``."""

    def __init__(self, nodes: Nodes) -> None:
        self._errands = Errands(
            nodes, "does not take the mail of its accounts (%s): senders try again", "takes mail again"
        )

    async def pass_on(self, node: str, mail: OnwardMail) -> list[Reply]:
        """See ``Onward``. Never raises but CancelledError."""
        answers = [replies.NODE_AWAY] * len(mail.recipients)
        await self._errands.run(node, partial(_bring, mail, answers))
        return answers


async def _bring(mail: OnwardMail, answers: list[Reply], dialogue: Dialogue) -> None:
    """One transaction; ``answers`` are filled in as they come. Raises Unanswered."""
    utf8 = b" SMTPUTF8" if mail.smtputf8 else b""
    dialogue.send(b"MAIL FROM:<%b> SIZE=%d%b\r\n" % (mail.sender, len(mail.octets), utf8))
    dialogue.send(b"".join(b"RCPT TO:<%b>\r\n" % one for one in mail.recipients))
    begun = await dialogue.reply()
    if not begun.positive:
        answers[:] = [begun] * len(answers)
        return
    accepted = []
    for number in range(len(answers)):
        answer = await dialogue.reply()
        if answer.positive:
            accepted.append(number)
        else:
            answers[number] = answer
    if accepted:
        dialogue.send_chunk(mail.octets)
    for number in accepted:
        answers[number] = await dialogue.reply()
