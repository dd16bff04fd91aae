"""Processes that are copies of the supervisor; each test is a program of its own, since it makes copies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from deploy.first_run import make_certificate

BEGIN = """
import os, signal, sys, threading, time
from twisted.internet.epollreactor import EPollReactor
from deploy import forking

class Parent:
    ends = []
    def __init__(self, when_ready=lambda: None):
        self.when_ready = when_ready
    def ready(self):
        self.when_ready()
    def ended(self, code):
        self.ends.append(code)
        if len(self.ends) == self.of:
            reactor.stop()

def wait(inherited):
    inherited.tell_ready()
    while os.read(inherited.control_fd, 1):
        pass
    return 0

reactor = EPollReactor()
reactor.callLater(50, os._exit, 9)
"""


def play(program: str) -> list[str]:
    """The lines that a program prints; it may not fail."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program], capture_output=True, timeout=60, check=False, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_child_has_no_descriptor_but_its_own() -> None:
    """Nor does one have the pipe by which another notices that the supervisor is gone."""
    said = play("""
def run(inherited):
    own = {0, 1, 2, inherited.control_fd, inherited.ready_fd, kept}
    seen = map(int, os.listdir("/proc/self/fd"))  # with that of the listing itself
    print(own == {one for one in seen if os.path.exists(f"/proc/self/fd/{one}")}, flush=True)
    return 0

def start():
    forking.start(reactor, "first", wait, [], Parent(another))

def another():
    forking.start(reactor, "second", run, [kept], Parent(lambda: None))

class Parent(Parent):
    def ended(self, code):
        super().ended(code)
        print(code, flush=True)

Parent.of = 1
kept, other = os.pipe()
reactor.callWhenRunning(start)
reactor.run()
""")
    assert said[:2] == ["True", "0"]


def test_how_a_child_ended_is_told() -> None:
    """Its exit code; a failure; the signal that killed it."""
    said = play("""
def fails(inherited):
    sys.excepthook = lambda *_: None
    raise ValueError

def start():
    forking.start(reactor, "one", lambda _: 7, [], Parent())
    forking.start(reactor, "two", fails, [], Parent())
    killed = forking.start(reactor, "three", wait, [], Parent(lambda: killed.send(signal.SIGKILL)))
    ended = forking.start(reactor, "four", wait, [], Parent(lambda: ended.send(signal.SIGTERM)))

Parent.of = 4
reactor.callWhenRunning(start)
reactor.run()
print(sorted(Parent.ends))
""")
    assert said == ["[-15, -9, 1, 7]"]


def test_a_child_does_not_answer_signals_as_its_parent_does() -> None:
    """Even one that was sent while it was being made."""
    said = play("""
def start():
    signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
    forking.start(reactor, "one", wait, [], Parent())

fork = os.fork
def fork_and_signal():
    pid = fork()
    os.kill(pid or os.getpid(), signal.SIGTERM)
    return pid

os.fork = fork_and_signal
Parent.of = 1
reactor.callWhenRunning(start)
reactor.run()
print(Parent.ends)
""")
    assert said == ["[-15]"]


def test_a_signal_to_a_child_is_written_to_no_file() -> None:
    """The descriptor that wakes its parent's reactor may be a database here."""
    said = play("""
def run(inherited):
    print(signal.set_wakeup_fd(-1), flush=True)
    return 0

def start():
    woken = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(woken)
    print(woken >= 0, flush=True)
    forking.start(reactor, "one", run, [], Parent())

Parent.of = 1
reactor.callWhenRunning(start)
reactor.run()
""")
    assert said == ["True", "-1"]


def test_a_child_notices_that_its_parent_is_gone() -> None:
    """At the end of the pipe, though nobody could tell it."""
    said = play("""
def run(inherited):
    wait(inherited)
    print("noticed", flush=True)
    return 0

def start():
    forking.start(reactor, "one", run, [], Parent(lambda: os.kill(os.getpid(), signal.SIGKILL)))

middle = os.fork()
if middle == 0:
    reactor.callWhenRunning(start)
    reactor.run()
os.waitpid(middle, 0)
""")
    assert said == ["noticed"]


def test_no_copy_is_made_while_a_thread_is_at_work() -> None:
    """It would hold locks that nobody releases in the copy."""
    said = play("""
release = threading.Event()
thread = threading.Thread(target=release.wait)
thread.start()
try:
    forking.start(reactor, "one", wait, [], Parent())
except BlockingIOError:
    print("refused")
release.set()
thread.join()
""")
    assert said == ["refused"]


def test_copies_do_not_draw_the_same_random_numbers(tmp_path: Path) -> None:
    """Keys and nonces; also where their parent has drawn some before."""
    said = play(f"""
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from mailstore.engine import DatabaseKey, open_connection

def draw(name):
    database = open_connection(Path({str(tmp_path)!r}) / name, DatabaseKey(bytes(32), bytes(16)))
    database.write(0, lambda txn: txn.run("CREATE TABLE t(x)"))
    database.write(0, lambda txn: txn.run("INSERT INTO t VALUES(randomblob(16))"))
    blob = database.read(0, lambda txn: txn.value("SELECT hex(x) FROM t"))
    database.close()
    nonce = (Path({str(tmp_path)!r}) / name).read_bytes()[4096 - 48 : 4096 - 32].hex()
    key = X25519PrivateKey.generate().private_bytes_raw().hex()
    print(blob, nonce, key, AESGCM.generate_key(256).hex(), os.urandom(16).hex(), flush=True)
    return 0

draw("parent")

def start():
    for name in ("one", "two"):
        forking.start(reactor, name, lambda _, name=name: draw(name), [], Parent())

Parent.of = 2
reactor.callWhenRunning(start)
reactor.run()
""")
    drawn = " ".join(said).split()
    assert len(set(drawn)) == len(drawn) == 15


SERVER = """
import os, sys
from pathlib import Path
import click
from deploy.cli.main import main
main.get_command(click.Context(main), "serve")
from deploy import config, worker
from deploy.forking import Inherited
from mailstore.account import init_root

class Worker(worker.Worker):
    def _ready(self, result):
        self.end()

worker.Worker = Worker
root = Path(sys.argv[1])
init_root(root)
found = config.load(root / "sealbox.toml")
control, _ = os.pipe()
known = set(sys.modules)
assert worker.run(found, 0, False, [], Inherited(control, -1)) == 0
print("more:", *sorted(set(sys.modules) - known))
print("S3:", *(name for name in ("boto3", "botocore", "urllib3") if name in sys.modules))
"""


def test_a_worker_shares_all_that_it_imports(tmp_path: Path) -> None:
    """The supervisor has imported it before; and none of them has what speaks S3."""
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    (tmp_path / "sealbox.toml").write_text(
        f'data = "{tmp_path}"\n[tls]\ncertificate = "{tmp_path}/c.pem"\nprivate_key = "{tmp_path}/k.pem"\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", SERVER, str(tmp_path)],
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["more: twisted.internet.default twisted.internet.reactor", "S3:"]
