"""Type the operator's document into a fresh Debian, and read what comes back.

    deploy/rehearse                     builds the package and the machine's disk, then calls this

Boots the disk in a virtual machine with two more that are empty, logs in on its serial console, types every
command of ``docs/operator.md``, answers what it is asked, and ends with an error at the first command that
fails or does not say what the document says. The object store is Cloudflare's local R2, at the machine's
127.0.0.1 as well. Needs qemu-system-x86 and, in this environment, pexpect.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pexpect

from tests.r2_server import R2Server
from tests.rehearsal.document import commands

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENT = PROJECT / "docs" / "operator.md"
SPARE_BYTES = 1 << 30
BOOT_S, COMMAND_S = 600.0, 600.0
PROMPT = "rehearsal[#] "
PASSPHRASE = "a passphrase for this disk"
PASSWORD = "correct-horse-battery-staple"  # of an account with generated mail
ANSWERS = {
    r"Passphrase of the volume: $": PASSPHRASE,
    r"New password: $": PASSWORD,
    r"Password or recovery key: $": PASSWORD,
    r"Repeat for confirmation: $": "",
    r"Enter host password for user '[^']*':$": PASSWORD,
    r"Type (/dev/\w+) to go on: $": "",
    r"\n> $": "",
}
"""What is typed where a program asks; the last two are answered by what was asked before, and by nothing."""

SAYS = {
    "sealbox --version": "sealbox, version",
    "sealbox volume status": "on LUKS",
    "sealbox check-config": "in order",
    "systemctl status": "2 of 2 workers serve",
    "imaps://mail.example.org": "It works",
    "sealbox account add grace": "https://mail[.]example[.]org/welcome/",
    "sealbox invite ada": "https://mail[.]example[.]org/invite/",
    "sealbox domain show": "_submissions",
    "sealbox backup status": "restore proven 20",
    "sealbox restore ada": "INBOX",
}
"""What must be in the answer (a regular expression) of each command with these words."""


class Console:
    """The serial console of a machine that is switched on."""

    def __init__(self, folder: Path, image: Path, kernel: Path, initrd: Path, accelerator: str) -> None:
        for name in ("spare", "second"):
            with (folder / name).open("wb") as disk:
                disk.truncate(SPARE_BYTES)
        drives = [image, folder / "spare", folder / "second"]
        arguments = [
            *("-M", "q35", "-accel", accelerator, "-cpu", "max", "-m", "2048", "-smp", "2"),
            *("-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio"),
            *("-kernel", str(kernel), "-initrd", str(initrd)),
            *("-append", "root=LABEL=root console=ttyS0 mitigations=off net.ifnames=0 quiet"),
            *("-device", "virtio-rng-pci", "-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n"),
        ]
        for drive in drives:
            arguments += ["-drive", f"file={drive},format=raw,if=virtio,cache=writeback"]
        self._child = pexpect.spawn(
            "qemu-system-x86_64", arguments, timeout=BOOT_S, encoding="utf-8", codec_errors="replace"
        )
        self._child.logfile_read = sys.stdout

    def log_in(self) -> None:
        """Wait for the shell of root, who is logged in by himself, and give it a prompt of ours."""
        self._child.expect_exact("# ")
        self._child.sendline(
            "stty cols 200; bind 'set enable-bracketed-paste off'; export PAGER=cat TERM=dumb"
        )
        self._child.sendline("PS1='rehearsal''# ' PS2=''")
        self._child.expect(PROMPT)

    def type(self, command: str) -> tuple[int, str]:
        """Type a command, answer its questions; its exit code and what it said."""
        code = 'echo "code=$?"'
        if "\n" in command or command.endswith("&"):
            self._child.sendline(command)
            self._child.expect(PROMPT, timeout=COMMAND_S)
            self._child.sendline(code)
        else:
            self._child.sendline(f"{command}; {code}")
        patterns = [r"code=(\d+)\s", *ANSWERS]
        said, last = "", ""
        while (found := self._child.expect(patterns, timeout=COMMAND_S)) > 0:
            said += self._child.before + self._child.after
            asked, answer = list(ANSWERS.items())[found - 1]
            if asked.startswith("Type"):
                answer = self._child.match[1]
            last = answer or last
            self._child.sendline(last)
        said += self._child.before
        code = int(self._child.match[1])
        self._child.expect(PROMPT)
        return code, said

    def switch_off(self) -> None:
        """As one pulls the plug."""
        self._child.close(force=True)


def rehearse(console: Console, endpoint: str, port: int) -> list[str]:
    """The whole document; what was not as it should be. Raises pexpect.TIMEOUT: a command does not end."""
    console.log_in()
    # The store checks signatures, of which its address is a part: it has to be the same here and there.
    here, there = f"127.0.0.1:{port}", f"10.0.2.2:{port}"
    console.type(
        f"systemd-socket-activate -l {here} /lib/systemd/systemd-socket-proxyd {there} 2>/dev/null &"
    )
    wrong, unused = [], set(SAYS)
    for command in commands(DOCUMENT):
        typed = command.replace("https://ACCOUNT.r2.cloudflarestorage.com", endpoint)
        code, said = console.type(typed.replace("my-bucket", "snapshots"))
        if code:
            wrong.append(f"{command!r} ends with {code}")
        for words, wanted in SAYS.items():
            if words in command:
                unused.discard(words)
                if not re.search(wanted, said):
                    wrong.append(f"{command!r} does not say {wanted!r}")
    return wrong + [f"no command has the words {words!r}" for words in sorted(unused)]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "image", type=Path, help="a disk with Debian, whose root logs in on the console; it is changed"
    )
    parser.add_argument("kernel", type=Path)
    parser.add_argument("initrd", type=Path)
    parser.add_argument("--kvm", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sealbox-rehearsal-"))
    store = R2Server(folder / "r2")
    try:
        console = Console(
            folder, options.image, options.kernel, options.initrd, "kvm" if options.kvm else "tcg"
        )
        try:
            began = time.monotonic()
            wrong = rehearse(console, store.endpoint, store.port)
        finally:
            console.switch_off()
    finally:
        store.stop()
        shutil.rmtree(folder)
    for one in wrong:
        print(f"\n{one}", file=sys.stderr)
    if wrong:
        raise SystemExit(1)
    print(f"\nall is well: {(time.monotonic() - began) / 60:.0f} minutes, start of the machine included")


if __name__ == "__main__":
    main()
