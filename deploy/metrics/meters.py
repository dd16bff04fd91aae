"""What a worker counts. No label holds anything that a client or a message brings.

Each process makes one ``Meters``, after ``folder.begin``. Labels are the program's own words, so there is an
end to them; what has been counted before is found in a dictionary, which costs less than asking the library.
"""

from __future__ import annotations

from typing import Literal, get_args

from prometheus_client import Counter, Gauge, Histogram

from mailstore.model import AccessProtocol
from protocols.access_log import Entry
from protocols.observer import LoginResult

COMMANDS_MAX = 150
"""Different commands that are told apart; the program knows fewer."""

UNKNOWN = "unknown"
UNTIMED = frozenset({"IMAP IDLE"})
"""Commands that last as long as the client likes."""

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RESULTS = ("ok", "refused", "failed")
DELIVERIES = ("delivered", "over_quota", "too_large", "no_room", "unavailable", "error")
SETTINGS = (
    "argon2.waiting_logins",
    "auth.connections_max",
    "imap.append_max_bytes",
    "imap.line_max_bytes",
    "imap.literal_max_bytes",
    "imap.literals_worker_max_bytes",
    "lmtp.connections_max",
    "lmtp.data_total_max_bytes",
    "lmtp.line_max_bytes",
    "lmtp.message_max_bytes",
    "lmtp.recipients_max",
    "login.waiting_max",
    "login.waiting_per_address_max",
    "pop3.connections_max",
    "pop3.line_max_bytes",
    "quota",
    "recipients.connections_max",
    "store",
    "store.max_message_bytes",
    "store.min_free_bytes",
    "stream.connections_max",
    "stream.connections_per_address_max",
)
"""What ``Observer.limit`` is told: settings; ``quota`` is an account's, ``store`` any of its section."""

LOGIN_PROTOCOLS = (AccessProtocol.IMAP, AccessProtocol.POP3, AccessProtocol.SMTP)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"sealbox_{name}", text, labels, registry=None)


def _gauge(
    name: str, text: str, *labels: str, of_all: Literal["livemax", "livemin", "livesum"] = "livesum"
) -> Gauge:
    return Gauge(f"sealbox_{name}", text, labels, registry=None, multiprocess_mode=of_all)


def _seconds(name: str, text: str, *labels: str) -> Histogram:
    return Histogram(f"sealbox_{name}_seconds", text, labels, registry=None, buckets=LATENCY_S)


class Meters:
    """The numbers of one worker; see ``protocols.observer.Observer``. Methods may be called in any thread."""

    def __init__(self) -> None:
        self._commands = _counter("commands", "Commands by result.", "protocol", "command", "result")
        self._latency = _seconds("command", "From a command to its answer.", "protocol", "command")
        self._logins = _counter("logins", "Attempts to log in by result.", "protocol", "result")
        self._login_s = _seconds("login", "From an attempt to its answer.", "protocol")
        self._throttled = _counter("logins_throttled", "Logins slowed by earlier failures.")
        self._limits = _counter("limits_hit", "What settings turned away.", "setting")
        self._deliveries = _counter("deliveries", "Messages by recipient and result.", "result")
        self._delivery_s = _seconds("delivery", "Sealing and writing one message.")
        self._argon2_wait_s = _seconds("argon2_wait", "Logins waiting for memory.")
        self.filed = _counter("messages_filed", "Sealed messages moved into databases.")
        self.restarts = _counter("worker_restarts", "Workers started in place of dead ones.")
        self.workers = _gauge("workers", "Workers that serve.")
        self.sessions = _gauge("sessions", "Open connections.", "service")
        self.open_accounts = _gauge("open_accounts", "Accounts open in workers.")
        self.awake_accounts = _gauge("awake_accounts", "Those of them whose databases are open.")
        self.waiting_logins = _gauge("logins_waiting", "Throttled logins that wait.")
        self.argon2_queue = _gauge("argon2_queue", "Logins that wait for memory.")
        self.waiting_jobs = _gauge("database_jobs_waiting", "Database work without a thread.")
        self.lag_s = _gauge("reactor_lag_seconds", "Delay of the slowest worker.", of_all="livemax")
        self.lease_left_s = _gauge("lease_left_seconds", "Until accounts close.", of_all="livemin")
        self.input_bytes = _gauge("input_bytes", "Unfinished input in memory.", "of")
        self._counted: dict[tuple[str, str], Counter] = {}
        self._timed: dict[str, Histogram | None] = {}
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Let what is likely to happen exist before it does: a rate needs a first value."""
        for protocol in LOGIN_PROTOCOLS:
            for result in get_args(LoginResult):
                self._logins.labels(protocol.value, result)
            self._login_s.labels(protocol.value)
        for result in DELIVERIES:
            self._deliveries.labels(result)
        for setting in SETTINGS:
            self._limits.labels(setting)

    def command(self, entry: Entry) -> None:
        """A command has been answered."""
        name, result = entry.command, _class_of(entry)
        counted = self._counted.get((name, result))
        if counted is None:
            counted = self._new_command(name, result)
        counted.inc()
        if entry.took_s is not None:
            timed = self._timed[name]
            if timed is not None:
                timed.observe(entry.took_s)

    def _new_command(self, name: str, result: str) -> Counter:
        protocol, _, command = name.partition(" ")
        if command in ("", "?") or (name not in self._timed and len(self._timed) >= COMMANDS_MAX):
            command = UNKNOWN
        if name not in self._timed:
            untimed = name in UNTIMED
            self._timed[name] = None if untimed else self._latency.labels(protocol.lower(), command)
        counted = self._commands.labels(protocol.lower(), command, result)
        self._counted[name, result] = counted
        return counted

    def login(self, protocol: AccessProtocol, result: LoginResult, took_s: float) -> None:
        """See ``Observer``."""
        self._logins.labels(protocol.value, result).inc()
        self._login_s.labels(protocol.value).observe(took_s)

    def login_throttled(self) -> None:
        """See ``Observer``."""
        self._throttled.inc()

    def limit(self, name: str) -> None:
        """See ``Observer``."""
        self._limits.labels(name).inc()

    def delivery(self, result: str, took_s: float) -> None:
        """A message for one recipient: one of ``DELIVERIES``."""
        self._deliveries.labels(result).inc()
        self._delivery_s.observe(took_s)

    def argon2_waited(self, seconds: float) -> None:
        """A login has got the memory that it needs."""
        self._argon2_wait_s.observe(seconds)


def _class_of(entry: Entry) -> str:
    if entry.failed:
        return "failed"
    return "ok" if entry.result.startswith(("OK", "+OK", "2", "3")) else "refused"
