"""sealbox account check. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import click

from deploy.cli.asking import current_secret, password_stdin_option
from deploy.cli.root import EPILOG, EXIT_STORAGE, Cli, command, mail_limits
from deploy.cli.transfer import transfer_bar, transferring
from deploy.texts import counted, size_text
from mailstore.account_check import Checked, Tally, check_account
from mailstore.damage import ACCOUNT_SECTION, GUIDE
from mailstore.flaws import Flaw
from mailstore.index_progress import index_progress
from mailstore.opened_account import Wanted, opened_account

_SENTENCES = {
    Flaw.PAGES: "pages of the database are not authentic",
    Flaw.STRUCTURE: "tables and indexes of the database contradict each other",
    Flaw.STRAY_ROWS: "rows belong to a mailbox or message that is not there",
    Flaw.STRAY_CONTENT: "there is content of messages that are not listed",
    Flaw.COUNTERS: "mailboxes count other messages than they have",
    Flaw.UIDS: "mailboxes would give UIDs a second time",
    Flaw.MODSEQS: "mailboxes have changes that are newer than their newest",
    Flaw.UNREADABLE: "damaged pages are in the way of messages",
    Flaw.CONTENT: "content of messages is missing, damaged or of another size",
    Flaw.FACTS: "the noted sizes of messages are not those of their content",
    Flaw.ANSWERS: "what clients are told about messages is missing or unreadable",
    Flaw.UNPLACED: "messages lie in no mailbox",
}
_OF_MAILBOXES = (Flaw.COUNTERS, Flaw.UIDS, Flaw.MODSEQS)


@click.command(epilog=EPILOG)
@click.argument("name")
@click.option("--repair", is_flag=True, help="Make anew what is wrong and can be derived from the messages.")
@password_stdin_option
@command
def check(cli: Cli, name: str, repair: bool, from_stdin: bool) -> None:
    """Look through all mail of the account NAME for damage; exit code 6 if there is any.

    Every page, counter, UID and message is read. The server may run, and the user be in. Any password with
    which the mail can be read will do. Without --repair nothing is changed that a login would not change.

    --repair counts anew, rebuilds indexes and what is kept ready to answer and sort by, and throws the search
    index away, which is made again while the account is open. It never changes or removes a message; those in
    no mailbox are put into a mailbox 'Recovered'. With damaged pages nothing is repaired: restore from a
    snapshot. Then the exit code is 6 only if something is still wrong.
    """
    wanted = Wanted(cli.root, name, current_secret(from_stdin), cli.params, *mail_limits(cli))
    done = Checked()
    with (
        transferring("the account cannot be read"),
        transfer_bar(cli, "checking") as bar,
        opened_account(wanted, writes=repair) as account,
    ):
        check_account(account, wanted.mime, bar, done, repair=repair)
        index = index_progress(account.paths).state.value
    fields = {
        "sound": done.is_sound,
        "mailboxes": done.mailboxes,
        "messages": done.messages,
        "size_bytes": done.size_bytes,
        "flaws": {flaw.value: _fields(tally) for flaw, tally in done.flaws.items()},
        "outdated": done.outdated,
        "renewed": done.renewed,
        "search_index": "removed" if done.index_removed else index,
    }
    cli.answer(fields, *_lines(done, repair))
    if not done.is_sound:
        cli.remark(f'see {GUIDE}, "{ACCOUNT_SECTION}"' if repair else "--repair mends what can be derived")
        raise SystemExit(EXIT_STORAGE)


def _fields(tally: Tally) -> dict[str, object]:
    return {"count": tally.count, "repaired": tally.repaired, "examples": tally.examples}


def _lines(done: Checked, repair: bool) -> list[str]:
    state = "sound" if done.is_sound else "NOT sound"
    mailboxes = counted(done.mailboxes, "mailbox", "mailboxes")
    whole = f"{counted(done.messages, 'message')} in {mailboxes}, {size_text(done.size_bytes)}"
    lines = [f"{state}: {whole}", *(_line(flaw, tally) for flaw, tally in done.flaws.items())]
    if done.outdated:
        kept = f"what is kept ready about {counted(done.outdated, 'message')} is not what would be kept now"
        lines.append(f"no damage: {kept}; {done.renewed} renewed")
    if repair:
        lines.append(
            "the search index was thrown away"
            if done.index_removed
            else "the search index stays: it is in use, or pages are damaged"
        )
    return lines


def _line(flaw: Flaw, tally: Tally) -> str:
    what = "mailboxes" if flaw in _OF_MAILBOXES else "messages"
    named = f" ({what} {', '.join(map(str, tally.examples))}{_more(tally)})" if tally.examples else ""
    return f"{tally.count}, {tally.repaired} repaired: {_SENTENCES[flaw]}{named}"


def _more(tally: Tally) -> str:
    return ", ..." if tally.count > len(tally.examples) else ""
