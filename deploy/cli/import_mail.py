"""sealbox import. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import csv
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from deploy.cli.asking import current_secret, other_password, password_stdin_option
from deploy.cli.owner import as_caller
from deploy.cli.quota import parse_size
from deploy.cli.root import EPILOG, EXIT_STORAGE, EXIT_USAGE, Cli, Refusal, command, explain, mail_limits
from deploy.cli.snapshot_store import parse_time
from deploy.cli.transfer import MOST_SHOWN, transfer_bar, transferring
from deploy.texts import counted, size_text
from mailstore.errors import StoreError
from mailstore.opened_account import Wanted
from mailstore.transfer.eml_source import EmlSource
from mailstore.transfer.imap_client import ImapClient, imap_place
from mailstore.transfer.imap_source import ImapSource, ImapWishes
from mailstore.transfer.importing import Choice, Imported, import_mail
from mailstore.transfer.maildir_source import MaildirSource
from mailstore.transfer.mbox_source import MboxSource
from mailstore.transfer.source import Destination, Found, Source, SourceMailbox

_MOST_CSV_BYTES = 16 * 1024 * 1024
_CSV_COLUMNS = 4
_SOURCES = "mbox:FILE, maildir:DIR, eml:DIR, imap://USER@HOST or imap+starttls://USER@HOST"
_IMAP = ("imap://", "imaps://", "imap+starttls://")


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What is wanted of a source, and how it is reached."""

    choice: Choice
    certificates: Path | None
    bytes_per_second: int


@dataclass(frozen=True, slots=True)
class Job:
    """One account, and where its mail is; ``source_password`` is for IMAP."""

    account: str = field(repr=False)
    secret: bytes = field(repr=False)
    place: str = field(repr=False)
    source_password: bytes = field(repr=False)


def import_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what is wanted of a source, as one argument ``options``."""

    @click.option(
        "--folder", "only", multiple=True, metavar="GLOB", help="Only such mailboxes of the source."
    )
    @click.option("--exclude", "not_these", multiple=True, metavar="GLOB", help="No such mailboxes.")
    @click.option(
        "--since", metavar="TIME", help="Only messages that arrived then or later, e.g. 2024-01-31."
    )
    @click.option(
        "--into", default="", metavar="MAILBOX", help="Where to: one mailbox becomes it, several go below it."
    )
    @click.option("--dry-run", is_flag=True, help="Say what would be imported, and change nothing.")
    @click.option(
        "--rate", metavar="SIZE", help="Read so much a second at most from an IMAP server, e.g. 2M."
    )
    @click.option(
        "--tls-ca",
        "certificates",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Certificates to trust instead of the system's, for an IMAP server.",
    )
    @functools.wraps(function)
    def body(*args: Any, **kwargs: Any) -> None:
        since, rate = kwargs.pop("since"), kwargs.pop("rate")
        certificates = kwargs.pop("certificates")
        wishes = {name: kwargs.pop(name) for name in ("only", "not_these", "into", "dry_run")}

        def options() -> ImportOptions:
            choice = Choice(**wishes, since=(parse_time(since) or 0) // 1000)
            return ImportOptions(choice, certificates, parse_size(rate) if rate else 0)

        function(*args, make_options=options, **kwargs)

    return body


@click.command("import", epilog=EPILOG)
@click.argument("account", required=False)
@click.option("--from", "place", metavar="PLACE", help=f"{_SOURCES}.")
@click.option(
    "--source-password-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File whose first line is the password on the IMAP server.",
)
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Many accounts: lines of account, its password, place, password there.",
)
@import_options
@password_stdin_option
@command
def import_command(
    cli: Cli,
    account: str | None,
    place: str | None,
    source_password_file: Path | None,
    table: Path | None,
    from_stdin: bool,
    make_options: Callable[[], ImportOptions],
) -> None:
    """Import mail of another program or server into ACCOUNT.

    Nothing in the account is changed or removed, and nothing on the other side. What is there already, with
    the same bytes and internal date in the same mailbox, is not imported again: run the command again after
    an interruption, or to fetch what is new. Messages that cannot be read are named and left out, and the
    exit code is 6. With --password-stdin the first line is the account's password, the second that on the
    IMAP server. Mailboxes keep their names, but Sent, Trash and the like go where the account has them.
    """
    options = make_options()
    if table is not None:
        if account is not None or place is not None:
            raise Refusal("the file of --csv names the accounts and places", EXIT_USAGE)
        _import_many(cli, _jobs(table), options)
        return
    if account is None or place is None:
        raise Refusal(f"name the account, and with --from where the mail is: {_SOURCES}", EXIT_USAGE)
    _check_place(place)
    secret = current_secret(from_stdin)
    password = _source_password(place, source_password_file, from_stdin)
    done = _run(cli, Job(account, secret, place, password), options)
    cli.answer(_fields(done), _line(done, options))
    _remarks(cli, done)
    if done.unusable_count:
        raise SystemExit(EXIT_STORAGE)


def _source_password(place: str, file: Path | None, from_stdin: bool) -> bytes:
    if not place.startswith(_IMAP):
        return b""
    if file is None:
        return other_password(from_stdin)
    return _text_of(file).split(b"\n")[0].removesuffix(b"\r")


def _text_of(file: Path) -> bytes:
    try:
        with as_caller(), file.open("rb") as opened:
            return opened.read(_MOST_CSV_BYTES)
    except OSError:
        raise Refusal(f"{file} cannot be read", EXIT_USAGE) from None


def _jobs(table: Path) -> list[Job]:
    """The lines of a file of accounts. Raises Refusal, which names the first line that is wrong."""
    try:
        rows = list(csv.reader(_text_of(table).decode("utf-8").splitlines(), skipinitialspace=True))
    except (UnicodeDecodeError, csv.Error):
        raise Refusal(f"{table} is no CSV in UTF-8", EXIT_USAGE) from None
    jobs = []
    for number, row in enumerate(rows, 1):
        if not row or row[0].startswith("#"):
            continue
        if len(row) != _CSV_COLUMNS:
            sentence = f"line {number} of {table}: write account, its password, place, password there"
            raise Refusal(sentence, EXIT_USAGE)
        _check_place(row[2])
        jobs.append(Job(row[0], row[1].encode(), row[2], row[3].encode()))
    return jobs


def _check_place(place: str) -> None:
    """Raises Refusal for what is no place."""
    kind, _, rest = place.partition(":")
    if not rest or not (kind in ("mbox", "maildir", "eml") or place.startswith(_IMAP)):
        raise Refusal(f"say where the mail is: {_SOURCES}", EXIT_USAGE)


def _check_path(path: Path) -> None:
    """Raises Refusal, which names it: there is no such file or folder."""
    if path.parts and path.parts[0].startswith("~"):
        raise Refusal(f"no shell replaces the ~ of {path} there: write the whole path, or $HOME instead of ~")
    try:
        with as_caller():
            path.stat()
    except FileNotFoundError:
        raise Refusal(f"{path.absolute()} is not there: check the path") from None
    except OSError:
        pass  # what reads it says what is in the way


@contextmanager
def _source(job: Job, max_message_bytes: int, options: ImportOptions) -> Iterator[Source]:
    kind, _, rest = job.place.partition(":")
    if not job.place.startswith(_IMAP):
        _check_path(Path(rest))
    match kind:
        case "mbox":
            yield MboxSource(Path(rest), max_message_bytes)
        case "maildir":
            yield MaildirSource(Path(rest), max_message_bytes)
        case "eml":
            yield EmlSource(Path(rest), max_message_bytes)
        case _:
            place = imap_place(job.place, job.source_password, options.certificates)
            client = ImapClient(place, max_message_bytes)
            try:
                yield ImapSource(
                    client, ImapWishes(max_message_bytes, options.bytes_per_second, options.choice.dry_run)
                )
            finally:
                client.close()


def _run(cli: Cli, job: Job, options: ImportOptions) -> Imported:
    limits, mime_limits = mail_limits(cli)
    wanted = Wanted(cli.root, job.account, job.secret, cli.params, limits, mime_limits)
    done = Imported()
    with (
        transferring("the source cannot be read"),
        transfer_bar(cli, "importing") as bar,
        _source(job, limits.max_message_bytes, options) as source,
    ):
        import_mail(wanted, _Told(source, cli), options.choice, bar, as_caller, done)
    return done


class _Told:
    """A source of which people are told the mailboxes as they are read."""

    def __init__(self, source: Source, cli: Cli) -> None:
        self._source = source
        self._cli = cli
        self._count = 0
        self._at = 0

    def mailboxes(self) -> list[SourceMailbox]:
        """As the source."""
        found = self._source.mailboxes()
        self._count = len(found)
        return found

    def size_bytes(self, mailboxes: list[SourceMailbox]) -> int:
        """As the source."""
        self._count = len(mailboxes)
        return self._source.size_bytes(mailboxes)

    def messages(self, mailbox: SourceMailbox, there: Destination) -> Iterator[Found]:
        """As the source; says first which one it is, in characters that no terminal takes for commands."""
        self._at += 1
        if not self._cli.as_json:
            name = ascii("/".join(mailbox.levels))
            tqdm.write(f"{self._at} of {self._count}: {name}", file=sys.stderr)
        return self._source.messages(mailbox, there)


def _import_many(cli: Cli, jobs: list[Job], options: ImportOptions) -> None:
    """One account after the other; one that fails stops no other, and gives the exit code."""
    found: list[dict[str, object]] = []
    worst = 0
    for job in jobs:
        try:
            done = _run(cli, job, options)
        except (Refusal, StoreError) as error:
            sentence, code = (
                (error.sentence, error.exit_code) if isinstance(error, Refusal) else explain(error, cli.root)
            )
            found.append({"account": job.account, "error": sentence, "exit_code": code})
            cli.remark(f"{job.account}  NOT imported: {sentence}")
        else:
            code = EXIT_STORAGE if done.unusable_count else 0
            found.append({"account": job.account, **_fields(done)})
            cli.remark(f"{job.account}  {_line(done, options)}")
            _remarks(cli, done)
        worst = max(worst, code)
    failed = sum("error" in one for one in found)
    cli.answer({"accounts": found}, f"{len(jobs) - failed} of {counted(len(jobs), 'account')} imported")
    if worst:
        raise SystemExit(worst)


def _fields(done: Imported) -> dict[str, object]:
    unusable = [{"place": one.place, "reason": one.reason.value} for one in done.unusable]
    return {**asdict(done), "unusable": unusable}


def _line(done: Imported, options: ImportOptions) -> str:
    verb = "would be imported" if options.choice.dry_run else "imported"
    return (
        f"{counted(done.messages, 'message')} {verb}, {size_text(done.size_bytes)},"
        f" in {counted(done.mailboxes, 'mailbox', 'mailboxes')}; there already: {done.already_there}"
    )


def _remarks(cli: Cli, done: Imported) -> None:
    for one in done.unusable[:MOST_SHOWN]:
        cli.remark(f"not imported: {one.place}: {one.reason.value}")
    if done.unusable_count > MOST_SHOWN:
        cli.remark(f"not imported: {done.unusable_count - MOST_SHOWN} more; --json names them")
    if done.older:
        cli.remark(f"left out: {done.older} older than --since")
    if done.deleted_in_source:
        cli.remark(f"left out: {done.deleted_in_source} that the source counts as deleted")
    if done.keywords_left_out:
        cli.remark(f"left out: {counted(done.keywords_left_out, 'keyword')}, more than a mailbox can have")
