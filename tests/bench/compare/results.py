"""What a run leaves behind: its sections of RESULTS.md, its charts, and all figures as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests import dovecot
from tests.bench.compare import chart
from tests.bench.compare.growth import PAIRS as GROWTH_PAIRS
from tests.bench.compare.report import Grown, Line, exponent, growth_table, table
from tests.bench.compare.size import Size

COMMAND = "    .venv/bin/python -m tests.bench.compare"
TABLE, GROWTH = "compare", "growth"
_HEAD = """\
## Sealbox beside Dovecot

{command} --messages {messages} --pairs {pairs} --peers {peers}

{about}.

{messages:,} generated messages in the inbox (3.8 KB on average, one in 25 about 20 KB), the servers in turn,
{pairs} turns each (2 where one takes longer than 10 s). A figure is the median of the turns; *CPU* is what
all the server's processes ran for one operation, in ms, kernel included; *times* says how many times as fast
Sealbox is, or as little memory it needs: above 1 is better. The goal is beside Dovecot as it comes, which
encrypts nothing.

All on 127.0.0.1 over TLS (LMTP without), with a client that reads and does not parse. Dovecot is mdbox with
its defaults, `mail_fsync = always` because Sealbox fsyncs every change, and `pop3_no_flag_updates` because
Sealbox marks nothing at RETR either; *encrypting* (`--peers crypt`) adds mail_crypt (`mail_crypt_curve =
prime256v1`) and zlib with zstd. Sealbox has its defaults but for more connections of one address, and Argon2,
which is set low but for the last four rows. Its search index was complete {indexed:.0f} s after the mail was
there.
"""
_GROWTH_HEAD = """\
## How it grows

{command} --growth

{about}.

The rows that may cost more in a larger mailbox, measured as above, {pairs} turns each; the exponent is that
of the power of the size which the figures follow best, and which the CPU time follows, which other work on
the machine disturbs less: 0 is flat, 1 in proportion.
"""


@dataclass
class Run:
    """One run of the command."""

    machine: str
    kinds: Sequence[str]
    size: Size
    lines: list[Line] = field(default_factory=list)
    grown: list[Grown] = field(default_factory=list)
    indexed_s: float = 0.0

    @property
    def about(self) -> str:
        """The machine, how busy it is when the run has ended, and whom Sealbox is compared with."""
        beside = f"; {dovecot.version()}" if len(self.kinds) > 1 else ""
        return f"{self.machine}, {os.getloadavg()[0]:.1f} after{beside}"


def as_json(run: Run) -> str:
    """Everything, for programs."""
    found = {
        "machine": run.about,
        "size": asdict(run.size),
        "indexed_s": run.indexed_s,
        "rows": [{**asdict(line), "met": line.is_met} for line in run.lines],
        "growth": [
            {**asdict(one), "exponents": {kind: exponent(found) for kind, found in one.values.items()}}
            for one in run.grown
        ],
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def write(run: Run, folder: Path) -> str:
    """Replace this run's section of RESULTS.md and its charts; a sentence about what was written."""
    if run.grown:
        head = _GROWTH_HEAD.format(command=COMMAND, about=run.about, pairs=GROWTH_PAIRS)
        name, body = GROWTH, growth_table(run.grown)
        drawn = chart.draw_growth(run.grown, folder)
    else:
        size = run.size
        head = _HEAD.format(
            command=COMMAND,
            about=run.about,
            messages=size.messages,
            pairs=size.pairs,
            peers=",".join(run.kinds[1:]),
            indexed=run.indexed_s,
        )
        name, body = TABLE, table(run.lines)
        drawn = chart.draw(run.lines, folder) if len(run.kinds) > 1 else ""
    path = folder / "RESULTS.md"
    replace_section(path, name, "\n".join((head, drawn, body)) if drawn else f"{head}\n{body}")
    return f"written: {path.name}" + ("" if drawn else f"; {chart.MISSING}")


def replace_section(path: Path, name: str, text: str) -> None:
    """Put ``text`` between the marks of a section of a Markdown file, which gets them if it has none."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before = path.read_text("utf-8") if path.exists() else "# Results\n"
    if begin not in before:
        before += f"\n{begin}\n{end}\n"
    head, _, rest = before.partition(begin)
    tail = rest.partition(end)[2]
    path.write_text(f"{head}{begin}\n{text.strip()}\n{end}{tail}", "utf-8")
