"""From a command line to a request (RFC 5321 section 4.1). Pure; every pattern is linear.

A protocol adds its own verbs to ``VERBS``: LHLO, or EHLO and HELO, among them.

Strict where leniency could move the border between commands and mail data (BDAT), lenient where
senders are known to be sloppy (a space after ``FROM:``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from protocols.envelope import replies
from protocols.envelope import requests as ask
from protocols.envelope.replies import Reply
from protocols.limits import EnvelopeLimits
from protocols.sites import read_address

_VERB = re.compile(rb"([A-Za-z]{1,16})(?: +(.*))?", re.DOTALL)
_GREETING_NAME = re.compile(rb"[A-Za-z0-9._\-\x80-\xff]{1,255}|\[[A-Za-z0-9.:\-]{1,250}\]")
_PATH = re.compile(
    rb"<(?:@[^<>: ]*:)?"
    rb"(\"(?:[^\"\\\x00-\x1f\x7f]|\\[ -~])*\"@[^<>\x00-\x20\x7f]*|[^<>\x00-\x20\x7f]*)>"
)
_QUOTED = re.compile(rb"\"((?:[^\"\\]|\\.)*)\"@(.+)", re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_IPV6 = b"IPV6:"
_NO_ADDRESS = (b"[UNAVAILABLE]", b"[TEMPUNAVAIL]")
_NUMBER = re.compile(rb"[0-9]{1,20}")
_BDAT = re.compile(rb"([0-9]{1,20})(?: +(LAST))?", re.IGNORECASE)
_AUTH = re.compile(rb"([A-Za-z0-9_-]{1,20})(?: +([!-~]+))?")
_FOREIGN = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) .*\bHTTP/[0-9]|\x16\x03", re.DOTALL
)


def is_foreign(text: bytes) -> bool:
    """Whether a line is HTTP or the beginning of a TLS handshake: no mail can follow."""
    return _FOREIGN.match(text) is not None


Parse = Callable[[bytes, EnvelopeLimits], ask.Request | Reply]
"""From what stands behind a verb to the request, or to the reply that refuses it."""


def parse_command(line: bytes, limits: EnvelopeLimits, verbs: Mapping[bytes, Parse]) -> ask.Request | Reply:
    """The request that a command line makes, or the reply that refuses it; never raises."""
    matched = _VERB.fullmatch(line.rstrip(b" \t"))
    if matched is None:
        return replies.UNKNOWN_COMMAND
    parse = verbs.get(matched.group(1).upper())
    if parse is None:
        return replies.UNKNOWN_COMMAND
    return parse(matched.group(2) or b"", limits)


def parse_greeting(argument: bytes, _limits: EnvelopeLimits) -> ask.Request | Reply:
    """What EHLO and LHLO are followed by."""
    if not _GREETING_NAME.fullmatch(argument) or not _is_utf8(argument):
        return replies.SYNTAX
    return ask.Greeting(argument)


def parse_helo(argument: bytes, limits: EnvelopeLimits) -> ask.Request | Reply:
    """What HELO is followed by."""
    request = parse_greeting(argument, limits)
    return replace(request, extended=False) if isinstance(request, ask.Greeting) else request


def _mail(argument: bytes, limits: EnvelopeLimits) -> ask.Request | Reply:
    split = _split_path(argument, b"FROM:", limits)
    if split is None:
        return replies.BAD_SENDER
    sender, rest = split
    if not _is_utf8(sender):
        return replies.BAD_SENDER
    parameters = _parameters(rest, limits)
    if isinstance(parameters, Reply):
        return parameters
    size_bytes: int | None = None
    smtputf8 = False
    for name, value in parameters.items():
        match name:
            case b"SIZE" if value is not None and _NUMBER.fullmatch(value):
                size_bytes = int(value)
            case b"BODY" if value is not None:
                if value.upper() not in (b"7BIT", b"8BITMIME"):
                    return replies.UNKNOWN_BODY
            case b"SMTPUTF8" if value is None:
                smtputf8 = True
            case b"SIZE" | b"BODY" | b"SMTPUTF8":
                return replies.SYNTAX
            case _:
                return replies.UNKNOWN_PARAMETER
    if not smtputf8 and not sender.isascii():
        return replies.NEEDS_SMTPUTF8
    return ask.Mail(sender, size_bytes, smtputf8)


def _rcpt(argument: bytes, limits: EnvelopeLimits) -> ask.Request | Reply:
    split = _split_path(argument, b"TO:", limits)
    if split is None or not split[0] or not _is_utf8(split[0]):
        return replies.BAD_ADDRESS
    recipient, rest = split
    parameters = _parameters(rest, limits)
    if isinstance(parameters, Reply):
        return parameters
    if parameters:
        return replies.UNKNOWN_PARAMETER
    return ask.Rcpt(recipient)


def _bdat(argument: bytes, _limits: EnvelopeLimits) -> ask.Request | Reply:
    matched = _BDAT.fullmatch(argument)
    if matched is None:
        return replies.BAD_BDAT
    return ask.Bdat(int(matched.group(1)), matched.group(2) is not None)


def parse_auth(argument: bytes, _limits: EnvelopeLimits) -> ask.Request | Reply:
    """What AUTH is followed by where it is offered; "=" is an empty initial response (RFC 4954 section 4)."""
    matched = _AUTH.fullmatch(argument)
    if matched is None:
        return replies.SYNTAX
    initial = matched.group(2)
    return ask.Auth(matched.group(1).upper(), b"" if initial == b"=" else initial)


def parse_xclient(argument: bytes, _limits: EnvelopeLimits) -> ask.Request | Reply:
    """What XCLIENT is followed by, for doors of programs that may speak for others: ADDR and nothing else."""
    name, _, value = argument.partition(b"=")
    if name.upper() != b"ADDR":
        return replies.SYNTAX
    if value.upper() in _NO_ADDRESS:
        return ask.XClient("")
    is_v6 = value[: len(_IPV6)].upper() == _IPV6
    address = read_address(value[len(_IPV6) :] if is_v6 else value)
    return ask.XClient(address) if address and is_v6 == (":" in address) else replies.SYNTAX


def xclient(address: str) -> bytes:
    """The command by which a client's address is told, or that there is none."""
    shown = read_address(address.encode("utf-8", "replace")).encode("ascii") or _NO_ADDRESS[0]
    return b"XCLIENT ADDR=%b%b\r\n" % (_IPV6 if b":" in shown else b"", shown)


def _split_path(argument: bytes, keyword: bytes, limits: EnvelopeLimits) -> tuple[bytes, bytes] | None:
    """The address in ``keyword<path> rest`` and the rest; None if it has no such form."""
    if argument[: len(keyword)].upper() != keyword:
        return None
    text = argument[len(keyword) :].lstrip(b" ")
    matched = _PATH.match(text)
    if matched is None or matched.end() - matched.start() > limits.address_max_bytes + 2:
        return None
    rest = text[matched.end() :]
    if rest and not rest.startswith(b" "):
        return None
    return _unquoted(matched.group(1)), rest


def _unquoted(address: bytes) -> bytes:
    """The address without the quotes of a local part that does not need them (RFC 5321 section 4.1.2).

    A local part that needs its quotes keeps them; no account has such an address.
    """
    matched = _QUOTED.fullmatch(address)
    if matched is None:
        return address
    local = _QUOTED_PAIR.sub(rb"\1", matched.group(1))
    if not local or re.search(rb"[\x00-\x20\x7f\"(),:;<>@\[\]\\]", local):
        return address
    return local + b"@" + matched.group(2)


def _parameters(rest: bytes, limits: EnvelopeLimits) -> dict[bytes, bytes | None] | Reply:
    """``*(SP keyword ["=" value])``; each keyword at most once."""
    parameters: dict[bytes, bytes | None] = {}
    words = rest.split()
    if len(words) > limits.parameters_max:
        return replies.SYNTAX
    for word in words:
        parameter = _PARAMETER.fullmatch(word)
        if parameter is None or (name := parameter.group(1).upper()) in parameters:
            return replies.SYNTAX
        parameters[name] = parameter.group(2)
    return parameters


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _bare(request: ask.Request) -> Parse:
    return lambda argument, _limits: replies.SYNTAX if argument else request


def always(answer: ask.Request | Reply) -> Parse:
    """A verb that is answered in the same way whatever follows it."""
    return lambda _argument, _limits: answer


VERBS: Mapping[bytes, Parse] = {
    b"MAIL": _mail,
    b"RCPT": _rcpt,
    b"DATA": _bare(ask.Data()),
    b"BDAT": _bdat,
    b"RSET": _bare(ask.Rset()),
    b"NOOP": always(ask.Noop()),
    b"VRFY": always(ask.Vrfy()),
    b"EXPN": always(replies.NOT_OFFERED),
    b"AUTH": always(replies.NOT_OFFERED),
    b"HELP": always(ask.Help()),
    b"STARTTLS": _bare(ask.StartTls()),
    b"QUIT": _bare(ask.Quit()),
}
