"""Secrets come from a terminal or from standard input, never from the command line."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from deploy.cli.root import EXIT_SECRET, EXIT_USAGE, Cli, Refusal
from mailstore.directory import Directory
from mailstore.errors import AuthenticationFailed
from mailstore.keyring import Keyring
from mailstore.keys import MAX_SECRET_BYTES, Typo, meant_as_recovery_key, recovery_key_typo
from mailstore.model import AccessProtocol
from mailstore.opening import open_as_owner

MIN_PASSWORD_CHARS = 8

_TYPOS = {
    Typo.LENGTH: "the recovery key is too short or too long: compare it with your print",
    Typo.CHARACTER: "the recovery key has a character that cannot be in one: compare it with your print",
    Typo.CHECKSUM: "the recovery key has a typing error: compare it with your print",
}


def password_stdin_option(function: Callable[..., None]) -> Callable[..., None]:
    """Add --password-stdin."""
    return click.option(
        "--password-stdin", "from_stdin", is_flag=True, help="Read secrets from standard input, one a line."
    )(function)


def protocol_option(what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add --protocol, for those protocols that there are; ``what`` is limited to it."""
    offered = [one.value for one in AccessProtocol if one is not AccessProtocol.DAV]
    return click.option(
        "--protocol",
        "protocols",
        multiple=True,
        type=click.Choice(offered),
        help=f"Limit {what} to this protocol; may be repeated.",
    )


def current_secret(from_stdin: bool) -> bytes:
    """The password or recovery key that opens the account now."""
    return _line() if from_stdin else _ask("Password or recovery key", confirm=False)


def secret_of_then(from_stdin: bool) -> bytes:
    """What opened the account before it got a new master key. Raises Refusal: it is not given."""
    why = "this state is from before the account got a new master key, and today's secret does not open it"
    if not from_stdin:
        click.echo(why, err=True)
        return _ask("Password or recovery key of then", confirm=False)
    try:
        return _line()
    except Refusal:
        sentence = f"{why}: give the password or recovery key of then as a second line"
        raise Refusal(sentence, EXIT_SECRET) from None


def new_passphrase(from_stdin: bool) -> str:
    """A passphrase for an encrypted file. Raises Refusal: it is empty, or no text that SQLCipher takes."""
    raw = _line() if from_stdin else _ask("Passphrase of the file", confirm=True)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text or "\0" in text:
        raise Refusal("the passphrase is empty, or no text in UTF-8: choose another one", EXIT_USAGE)
    return text


def other_password(from_stdin: bool) -> bytes:
    """The password of an account on another server."""
    return _line() if from_stdin else _ask("Password on the other server", confirm=False)


def new_password(from_stdin: bool) -> bytes:
    """A new password. A short one is refused at a terminal, and warned about in a script. Raises Refusal."""
    password = _line() if from_stdin else _ask("New password", confirm=True)
    if not password:
        raise Refusal("the password is empty: choose one")
    if len(password.decode("utf-8", "replace")) < MIN_PASSWORD_CHARS:
        better = f"{MIN_PASSWORD_CHARS} characters or more protect the mail better"
        if not from_stdin:
            raise Refusal(f"the password is short: {better}")
        click.echo(f"note: the password was taken, but it is short; {better}", err=True)
    return password


@contextmanager
def opened_keyring(cli: Cli, directory: Directory, name: str, secret: bytes) -> Iterator[Keyring]:
    """The keyslots of an account that its owner opens; the master key is wiped afterwards."""
    try:
        opened = open_as_owner(cli.root, directory, name, secret, now=time.time(), params=cli.params)
    except AuthenticationFailed as error:
        text = secret.decode("utf-8", "replace")
        # Only after the attempt: a password may look like a mistyped recovery key.
        if type(error) is AuthenticationFailed and meant_as_recovery_key(text):
            typo = recovery_key_typo(text)
            if typo is not None:
                raise Refusal(_TYPOS[typo], EXIT_SECRET) from None
        raise
    try:
        record = opened.record
        yield Keyring(
            *(cli.root, directory, record.account_id, opened.master, cli.params),
            public_key=record.public_key,
        )
    finally:
        opened.wipe()


def _line() -> bytes:
    line = sys.stdin.buffer.readline(MAX_SECRET_BYTES + 3)
    if not line:
        raise Refusal("standard input ended before the secret: give one secret a line", EXIT_USAGE)
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _ask(prompt: str, *, confirm: bool) -> bytes:
    if not sys.stdin.isatty():
        raise Refusal(
            f"there is no terminal to ask on: give the {prompt.lower()} with --password-stdin", EXIT_USAGE
        )
    text: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return text.encode("utf-8")
