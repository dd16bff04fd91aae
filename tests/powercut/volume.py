"""The volume commands on real dm-crypt: create, serve, deliver, pull the plug, open, read, close.

    .venv/bin/python -m tests.powercut.volume [--keep FOLDER] [--kvm]

In the virtual machine of ``tests.powercut``, whose disk begins empty; needs the same programs. Says what it
does; ends with an error at the first thing that is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.first_run import make_certificate
from tests.powercut import machine
from tests.soak.site import PROJECT

SECONDS = 600.0
PASSPHRASE = "a passphrase for this disk"
PASSWORD = "correct-horse-battery-staple"  # of generated mail
MARKER = "wombat-4711-marker"
_BEGIN = "touch /tmp/shared/ready\n"
_CONFIG = """data = "/data"
hostname = "localhost"
workers = 1
[tls]
certificate = "/tmp/shared/certificate.pem"
private_key = "/tmp/shared/private-key.pem"
[listen]
imaps = ["127.0.0.1:993"]
pop3s = []
lmtp = ["unix:/run/lmtp"]
"""
_DELIVER = f"""import smtplib
client = smtplib.LMTP("/run/lmtp")
text = "From: b@example.org\\r\\nSubject: {MARKER}\\r\\n\\r\\n{MARKER}\\r\\n"
client.sendmail("b@example.org", ["a@example.org"], text)
"""
_READ = f"""import imaplib, ssl
client = imaplib.IMAP4_SSL("127.0.0.1", 993, ssl_context=ssl._create_unverified_context())
client.login("a@example.org", "{PASSWORD}")
client.select()
assert b"{MARKER}" in client.fetch("1", "BODY[]")[1][0][1]
client.logout()
"""


class Script:
    """Steps in a machine, each said on standard output."""

    def __init__(self, made: machine.Machine) -> None:
        self._made = made
        self._number = 0

    def start(self) -> None:
        """Switch the machine on."""
        ready = self._made.shared / "ready"
        ready.unlink(missing_ok=True)
        self._made.start(ready.exists)

    def step(self, what: str, command: str, expected: int = 0, said: str = "") -> str:
        """One command, its exit code, and something that it has to say."""
        self._number += 1
        found = self._made.run(f"step{self._number}", command, SECONDS, expected)
        if said not in found:
            raise RuntimeError(f"{what}: it does not say {said!r} but {found[-2000:]!r}")
        print(f"{what}: as it should be", flush=True)
        return found

    def python(self, what: str, name: str, code: str) -> None:
        """Run Python code in the machine."""
        (self._made.shared / name).write_text(code)
        self.step(what, f"{sys.executable} /tmp/shared/{name}")

    def serving(self, what: str) -> None:
        """Start the server, and wait until it says that it serves."""
        log = "/tmp/shared/serve.log"
        command = f"{_sealbox('serve')} > {log} 2>&1 & echo $! > /run/server"
        wait = f"until grep -q serving {log}; do kill -0 $(cat /run/server) || exit 9; sleep 0.3; done"
        self.step(what, f"{command}; {wait}")

    def stopping(self, what: str) -> None:
        """Stop it, and wait for its end."""
        self.step(what, "p=$(cat /run/server); kill $p; while kill -0 $p 2>/dev/null; do sleep 0.2; done")


def _sealbox(command: str, key: str = "") -> str:
    given = f"printf '%s\\n' '{key}' | " if key else ""
    said = f"cd {PROJECT} && {given}{sys.executable} -m deploy {command} --config /tmp/shared/sealbox.toml"
    # Where there is a terminal, and the machine's console is one, it would ask.
    return said if key else said + " < /dev/null"


def _create(script: Script) -> None:
    status = _sealbox("volume status --json")
    create = "volume create /dev/vda --passphrase-stdin --owner root"
    found = script.step("no volume yet", status, expected=6)
    assert not _fields(found)["encrypted"]
    script.step("serving from there is refused", _sealbox("serve"), expected=3, said="LUKS")
    script.step("a short passphrase is refused", _sealbox(create, "short"), expected=3, said="short")
    script.step("create", _sealbox(create, PASSPHRASE), said="/etc/crypttab: sealbox UUID=")
    found = script.step("it is open", status)
    assert _fields(found)["encrypted"] and _fields(found)["volume"]["mounted"] == "/data"
    script.step("argon2id", "cryptsetup luksDump /dev/vda", said="argon2id")
    script.step("mount options", "grep ' /data ' /proc/self/mounts", said="nosuid,nodev,noexec,noatime")
    script.step("in use it is not made again", _sealbox(create, PASSPHRASE), expected=3, said="in use")


def _serve(script: Script) -> None:
    script.step("an account", _sealbox("account add a@example.org --password-stdin", PASSWORD))
    script.serving("serve")
    script.python("deliver", "deliver.py", _DELIVER)
    script.step("closing is refused", _sealbox("volume close"), expected=3, said="a server runs")


def _again(script: Script, made: machine.Machine) -> None:
    opening = "volume open --passphrase-stdin"
    script.step("plug pulled: not open", _sealbox("volume status"), expected=6)
    script.step("a wrong passphrase", _sealbox(opening, "wrong passphrase"), expected=4)
    create = _sealbox("volume create /dev/vda")
    script.step("create asks before it destroys", create, expected=3, said="crypto_LUKS")
    script.step("open", _sealbox(opening, PASSPHRASE), said="is open and mounted at /data")
    script.step("open again", _sealbox(opening, PASSPHRASE), said="already open")
    script.serving("serve again")
    script.python("read", "read.py", _READ)
    script.stopping("stop")
    closing = _sealbox("volume close")
    held = f"sleep 999 < /data/clock & echo $! > /run/sleeper; {closing}"
    script.step("who is in the way", held, expected=3, said="sleep (")
    script.step("close", f"kill $(cat /run/sleeper); sleep 1; {closing}", said="is closed")
    script.step("close again", closing, said="was not open")
    script.step("ciphertext", "sync; ! grep -aq wombat /dev/vda")
    open_by_file = _sealbox("volume open --key-file /run/k")
    readable = f"echo k > /run/k; chmod 644 /run/k; {open_by_file}"
    script.step("a key file that all may read", readable, expected=3, said="chmod 600")


def _swap(script: Script) -> None:
    script.step("open once more", _sealbox("volume open --passphrase-stdin", PASSPHRASE))
    make = "fallocate -l 32M /data/swap; chmod 600 /data/swap; mkswap -q /data/swap; swapon /data/swap"
    script.step("swap on the volume", make)
    script.step("encrypted swap is fine", _sealbox("volume status"), said="swap     none, or encrypted")
    loop = (
        "truncate -s 32M /run/plain; losetup /dev/loop0 /run/plain; mkswap -q /dev/loop0; swapon /dev/loop0"
    )
    script.step("swap in the clear", loop)
    script.step("is said", _sealbox("volume status"), expected=6, said="NOT encrypted: /dev/loop0")
    script.step("is refused", _sealbox("serve"), expected=3, said="swap on /dev/loop0 is not encrypted")


def _fields(said: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def play(folder: Path, accelerator: str) -> None:
    """All of it. Raises RuntimeError or AssertionError."""
    shared = folder / "shared"
    shared.mkdir()
    (shared / "sealbox.toml").write_text(_CONFIG)
    make_certificate(shared / "certificate.pem", shared / "private-key.pem")
    made = machine.Machine(folder, machine.fetch_kernel(PROJECT / ".powercut"), shared, {}, accelerator)
    made.prepare(PROJECT, sys.executable, begin=_BEGIN)
    script = Script(made)
    acts: tuple[Callable[[Script], None], ...] = (_create, _serve)
    try:
        script.start()
        for act in acts:
            act(script)
        made.pull_the_plug()
        script.start()
        _again(script, made)
        _swap(script)
    finally:
        made.pull_the_plug()


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keep", type=Path, help="an empty folder for everything; it is not removed")
    parser.add_argument("--kvm", action="store_true")
    options = parser.parse_args()
    if missing := machine.missing():
        raise SystemExit(f"not there: {', '.join(missing)}; apt install {machine.PACKAGES}")
    folder = options.keep or Path(tempfile.mkdtemp(prefix="sealbox-volume-"))
    folder.mkdir(parents=True, exist_ok=True)
    play(folder.resolve(), "kvm" if options.kvm else "tcg")
    if not options.keep:
        shutil.rmtree(folder)
    print("all is well")


if __name__ == "__main__":
    main()
