"""A server's numbers on a terminal (rich): 80 columns by 24 lines suffice, larger ones show more commands.

Labels are as short as the longest value beside them needs it there.
"""

from __future__ import annotations

from rich.align import Align
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deploy.metrics.summary import DAY_S, FEW_BYTES_SHARE, LATE_CHANGE_S, LATE_PROOF_DAYS, Summary
from deploy.texts import size_text

_DIM, _GOOD, _BAD, _ODD = "bright_black", "green", "bold red", "yellow"
_SERVICES = (
    "imaps",
    "imap",
    "pop3s",
    "pop3",
    "lmtp",
    "auth",
    "recipients",
    "node_lmtp",
    "imap_proxied",
    "pop3_proxied",
    "auth_proxied",
    "auth_http",
    "node_auth_http",
)
_REFUSALS = ("over_quota", "too_large", "no_room", "unavailable", "error")
TOP_LINES = 9
"""Lines of all that is above the commands."""


def count(value: float | None) -> str:
    """A number of things, in as few letters as tell it: 7, 1,203, 45.2k, 3.1M."""
    if value is None:
        return "-"
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (100_000, "k")):
        if abs(value) >= size:
            return f"{value / (1000 if letter == 'k' else size):.1f}{letter}"
    return f"{value:,.0f}"


def rate(value: float) -> str:
    """How often, with a decimal where that is seldom; nothing for never."""
    if value == 0:
        return "·"
    return f"{value:.1f}" if value < 100 else count(value)


def duration(seconds: float | None) -> str:
    """A time in its two largest units."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / DAY_S
    if minutes < 60:
        return f"{minutes:.0f} min"
    if hours < 48:
        return f"{int(hours)} h {int(minutes) % 60} min" if hours < 10 else f"{hours:.0f} h"
    return f"{days:.0f} d"


def size(value: float | None) -> str:
    """Octets, see ``size_text``."""
    return "-" if value is None else size_text(int(value))


def screen(
    found: Summary, *, width: int, height: int, server: str, clock: str, below: str = "q ends"
) -> RenderableType:
    """The whole screen, ``height`` lines of ``width`` columns; ``below`` is said where nothing is wrong."""
    layout = Layout()
    trouble = _trouble(found, below)
    layout.split_column(
        Layout(_head(found, server, clock), size=1),
        Layout(name="top", size=TOP_LINES),
        Layout(name="bottom"),
        Layout(trouble, size=max(len(found.troubles), 1)),
    )
    layout["top"].split_row(
        Layout(_sessions(found), ratio=5), Layout(_logins(found), ratio=9), Layout(_mail(found), ratio=6)
    )
    lines = height - TOP_LINES - 1 - max(len(found.troubles), 1) - 3
    layout["bottom"].split_row(Layout(_commands(found, lines), ratio=14), Layout(_machine(found), ratio=6))
    return layout


def _head(found: Summary, server: str, clock: str) -> RenderableType:
    good = found.workers >= found.workers_configured
    text = Text.assemble(
        ("Sealbox ", "bold"),
        (f"{found.version}  ", _DIM),
        f"{server}  ",
        (f"up {duration(found.up_s)}  ", _DIM),
        (f"{found.workers}/{found.workers_configured} workers  ", _GOOD if good else _BAD),
        (f"lag {duration(found.lag_s)}", _DIM if found.lag_s < 0.25 else _BAD),
    )
    row = Table.grid(expand=True)
    row.add_column(ratio=1, no_wrap=True)
    row.add_column(justify="right", no_wrap=True)
    row.add_row(text, Text(clock, _DIM))
    return row


def _grid(*justify: str) -> Table:
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    for number, one in enumerate(justify):
        table.add_column(justify=one, no_wrap=True, ratio=1 if number == 0 else None)  # type: ignore[arg-type]  # a literal of rich's
    return table


def _sessions(found: Summary) -> RenderableType:
    table = _grid("left", "right")
    for service in _SERVICES:
        open_now = found.sessions.get(service, 0)
        if open_now or service in ("imaps", "pop3s", "lmtp"):
            table.add_row(service, count(open_now))
    table.add_row(Text("accounts", _DIM), count(found.open_accounts))
    return Panel(table, title="sessions", title_align="left", border_style=_DIM)


def _logins(found: Summary) -> RenderableType:
    table = _grid("left", "right", "right", "right", "right")
    table.add_row(*(Text(one, _DIM) for one in ("a minute", "ok", "wrong", "later", "error")))
    for protocol, by in found.logins.items():
        table.add_row(
            protocol,
            rate(by["ok"]),
            Text(rate(by["wrong"]), _ODD if by["wrong"] else ""),
            Text(rate(by["later"]), _BAD if by["later"] else ""),
            Text(rate(by["error"]), _BAD if by["error"] else ""),
        )
    below = _grid("left", "right")
    below.add_row(
        Text("slowed by failures", _DIM), Text(count(found.throttled), _ODD if found.throttled else "")
    )
    below.add_row(
        Text("wait for memory", _DIM), Text(count(found.argon2_queue), _ODD if found.argon2_queue else "")
    )
    below.add_row(Text("95 % take less than", _DIM), duration(found.login_most_s))
    return Panel(Group(table, below), title="logins", title_align="left", border_style=_DIM)


def _mail(found: Summary) -> RenderableType:
    table = _grid("left", "right")
    table.add_row(Text("a minute", _DIM), "")
    table.add_row("delivered", rate(found.deliveries["delivered"]))
    refused = sum(found.deliveries[one] for one in _REFUSALS)
    table.add_row("refused", Text(rate(refused), _BAD if refused else ""))
    table.add_row("filed", rate(found.filed))
    table.add_row(Text("sealed", _DIM), count(found.sealed))
    table.add_row(Text("oldest", _DIM), duration(found.sealed_oldest_s) if found.sealed else "-")
    return Panel(table, title="mail", title_align="left", border_style=_DIM)


def _commands(found: Summary, lines: int) -> RenderableType:
    table = _grid("left", "right", "right", "right", "right", "right")
    table.add_row(*(Text(one, _DIM) for one in ("a second", "ok", "refused", "failed", "half", "95 %")))
    shown = found.commands[: max(lines, 1)]
    for row in shown:
        table.add_row(
            row.name,
            rate(row.ok),
            rate(row.refused),
            Text(rate(row.failed), _ODD if row.failed else ""),
            duration(row.half_s),
            Text(duration(row.most_s), _BAD if row.most_s is not None and row.most_s > 2 else ""),
        )
    body: RenderableType = table if shown else Align.center(Text("nobody asks for anything", _DIM))
    left = len(found.commands) - len(shown)
    title = "commands" if not left else f"commands, {left} more"
    return Panel(body, title=title, title_align="left", border_style=_DIM)


def _machine(found: Summary) -> RenderableType:
    table = _grid("left", "right")
    share = found.free_bytes / found.size_bytes if found.free_bytes is not None and found.size_bytes else None
    tight = share is not None and share < FEW_BYTES_SHARE
    table.add_row(Text("free", _DIM), Text(size(found.free_bytes), _BAD if tight else ""))
    table.add_row(Text("of volume", _DIM), "-" if share is None else f"{share:.0%}")
    ends = found.certificate_s
    table.add_row(
        Text("cert ends", _DIM),
        Text(duration(ends), _BAD if ends is not None and ends < 14 * DAY_S else ""),
    )
    if not found.snapshots:
        table.add_row(Text("snapshots", _DIM), Text("off", _ODD))
        return Panel(table, title="machine", title_align="left", border_style=_DIM)
    late = found.oldest_change_s is not None and found.oldest_change_s > LATE_CHANGE_S
    table.add_row(Text("snap lag", _DIM), Text(duration(found.oldest_change_s or None), _BAD if late else ""))
    old = found.proven_s is None or found.proven_s > LATE_PROOF_DAYS * DAY_S
    proven = "never" if found.proven_s is None else f"{duration(found.proven_s)} ago"
    table.add_row(Text("proven", _DIM), Text(proven, _ODD if old else ""))
    return Panel(table, title="machine", title_align="left", border_style=_DIM)


def _trouble(found: Summary, below: str) -> RenderableType:
    if not found.troubles:
        return Text(below or " ", _DIM)
    return Text("\n".join(found.troubles), _BAD, no_wrap=True, overflow="ellipsis")
