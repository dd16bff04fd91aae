"""What an operator wants to see at one look: a server's numbers in words and rates. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.metrics.meters import DELIVERIES, LOGIN_PROTOCOLS, RESULTS
from deploy.metrics.numbers import Between, Numbers
from deploy.texts import counted

DAY_S = 86_400
MINUTE_S = 60.0
FEW_BYTES_SHARE = 0.05
LATE_CHANGE_S = 1800
LATE_PROOF_DAYS = 10


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One command: how often a second by result, and times in seconds (None: none ended)."""

    name: str
    ok: float
    refused: float
    failed: float
    half_s: float | None
    most_s: float | None

    @property
    def all(self) -> float:
        """How often a second."""
        return self.ok + self.refused + self.failed


@dataclass(frozen=True, slots=True)
class Summary:
    """See the module's docstring. Rates of logins and mail are a minute, those of commands a second."""

    version: str
    up_s: float
    workers: int
    workers_configured: int
    lag_s: float
    sessions: dict[str, int]
    open_accounts: int
    logins: dict[str, dict[str, float]]
    throttled: int
    argon2_queue: int
    login_most_s: float | None
    deliveries: dict[str, float]
    filed: float
    sealed: int | None
    sealed_oldest_s: float | None
    commands: tuple[CommandRow, ...]
    """The busiest first."""
    free_bytes: float | None
    size_bytes: float | None
    certificate_s: float | None
    """Seconds until it ends."""
    snapshots: bool
    oldest_change_s: float | None
    proven_s: float | None
    """Seconds since a restore was last proven; None for never."""
    troubles: tuple[str, ...]


def summary_of(between: Between, now_s: float) -> Summary:
    """``now_s`` is in seconds since the epoch, by the server's clock."""
    now = between.now
    build = next(now.having("sealbox_build"), ({}, 0.0))[0]
    proven = now.get("sealbox_backup_newest_proof_timestamp_seconds")
    expiry = now.get("sealbox_certificate_expiry_timestamp_seconds")
    return Summary(
        version=build.get("version", "?"),
        up_s=max(now_s - now.sum("sealbox_start_time_seconds"), 0.0),
        workers=int(now.sum("sealbox_workers")),
        workers_configured=int(now.sum("sealbox_workers_configured")),
        lag_s=now.sum("sealbox_reactor_lag_seconds"),
        sessions={own["service"]: int(value) for own, value in now.having("sealbox_sessions")},
        open_accounts=int(now.sum("sealbox_open_accounts")),
        logins=_logins(between),
        throttled=int(now.sum("sealbox_logins_waiting")),
        argon2_queue=int(now.sum("sealbox_argon2_queue")),
        login_most_s=between.quantile_s(0.95, "sealbox_login_seconds"),
        deliveries={
            one: between.rate("sealbox_deliveries_total", result=one) * MINUTE_S for one in DELIVERIES
        },
        filed=between.rate("sealbox_messages_filed_total") * MINUTE_S,
        sealed=_whole(now.get("sealbox_sealed_messages")),
        sealed_oldest_s=now.get("sealbox_sealed_oldest_age_seconds"),
        commands=_commands(between),
        free_bytes=now.get("sealbox_volume_free_bytes"),
        size_bytes=now.get("sealbox_volume_size_bytes"),
        certificate_s=None if expiry is None else expiry - now_s,
        snapshots=bool(now.sum("sealbox_backup_configured")),
        oldest_change_s=now.get("sealbox_backup_oldest_change_seconds"),
        proven_s=now_s - proven if proven else None,
        troubles=tuple(_troubles(now, now_s)),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _logins(between: Between) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for protocol in LOGIN_PROTOCOLS:
        found[protocol.value] = {
            result: between.rate("sealbox_logins_total", protocol=protocol.value, result=result) * MINUTE_S
            for result in ("ok", "wrong", "later", "error")
        }
    return found


def _commands(between: Between) -> tuple[CommandRow, ...]:
    names = {(own["protocol"], own["command"]) for own, _ in between.now.having("sealbox_commands_total")}
    rows = []
    for protocol, command in sorted(names):
        labels = {"protocol": protocol, "command": command}
        ok, refused, failed = (
            between.rate("sealbox_commands_total", result=result, **labels) for result in RESULTS
        )
        half, most = (between.quantile_s(share, "sealbox_command_seconds", **labels) for share in (0.5, 0.95))
        rows.append(CommandRow(f"{protocol} {command}", ok, refused, failed, half, most))
    return tuple(sorted((row for row in rows if row.all), key=lambda row: -row.all))


def _troubles(now: Numbers, now_s: float) -> list[str]:
    """What somebody should do something about, the worst first; deploy/monitoring/alerts.yml says what."""
    found = []
    missing = now.sum("sealbox_workers_configured") - now.sum("sealbox_workers")
    if missing > 0:
        found.append(f"missing: {counted(round(missing), 'worker')}: see the log")
    free, size = now.get("sealbox_volume_free_bytes"), now.get("sealbox_volume_size_bytes")
    if free is not None and size and free / size < FEW_BYTES_SHARE:
        found.append(f"{free / size:.1%} of the volume are free: see 'sealbox account usage'")
    if now.sum("sealbox_backup_store_trouble"):
        found.append("the object store takes no snapshots: see 'sealbox backup status'")
    if failing := now.sum("sealbox_backup_failing_accounts"):
        found.append(
            f"{counted(round(failing), 'account')} without a new snapshot: see 'sealbox backup status'"
        )
    if now.sum("sealbox_backup_oldest_change_seconds") > LATE_CHANGE_S:
        found.append("a change has waited for half an hour for a snapshot: see 'sealbox backup status'")
    ends_s = now.get("sealbox_certificate_expiry_timestamp_seconds")
    if ends_s is not None and ends_s - now_s < 14 * DAY_S:
        days = counted(round(max(ends_s - now_s, 0) / DAY_S), "day")
        found.append(f"the certificate ends in {days}: renew it, then reload")
    if now.sum("sealbox_backup_configured"):
        proven = now.get("sealbox_backup_newest_proof_timestamp_seconds")
        # As long as none has been proven, the days count from the first snapshot.
        since = proven or now.get("sealbox_backup_first_stored_timestamp_seconds")
        if since and now_s - since > LATE_PROOF_DAYS * DAY_S:
            found.append("no restore was proven for ten days: run 'sealbox backup drill'")
    return found
