"""The TOML configuration: every setting has a name, a unit in the name, a default and a check.

Sections that bound a room (``store``, ``imap`` ...) are that room's own dataclass, so a limit is
defined once. ``load`` names every mistake of a file at once. ``example.toml`` shows all settings.
"""

from __future__ import annotations

import dataclasses
import grp
import os
import re
import socket
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from backup.errors import KeyFileInvalid
from backup.keypair import read_public_key
from backup.limits import BackupLimits
from deploy.config_directory import DirectorySection
from deploy.config_door import DnsSection, DoorSettings, HttpsSection, SetupSection
from deploy.config_listen import ListenSection, check_endpoints
from deploy.config_node import NodeSection
from deploy.config_proxy import ProxySection
from deploy.config_section import Section, TlsSection, limits_of, section_of
from deploy.logs import LogSettings
from deploy.machine import memory_mib
from mailstore.errors import StoreError
from mailstore.keys import Argon2Params
from mailstore.limits import StoreLimits
from mailstore.mime import MimeLimits
from mailstore.unlock import UnlockLimits
from protocols.https.facts import SetupFacts
from protocols.limits import (
    AccessLogLimits,
    AuthHttpLimits,
    EnvelopeLimits,
    ImapLimits,
    LoadLimits,
    LoginLimits,
    Pop3Limits,
    SaslServiceLimits,
    SocketmapLimits,
    StreamLimits,
)

DEFAULT_PATHS = (Path("/etc/sealbox/sealbox.toml"), Path("sealbox-data/sealbox.toml"))
"""The system's configuration file, or that of a quick start in the current folder."""

FILE_NAME = "sealbox.toml"


class ConfigError(Exception):
    """The configuration cannot be used; ``mistakes`` are complete sentences for the operator."""

    def __init__(self, path: Path, mistakes: tuple[str, ...]) -> None:
        super().__init__(f"{path}: " + "; ".join(mistakes))
        self.path = path
        self.mistakes = mistakes


class Argon2Section(Section):
    """Cost of new keyslots (RFC 9106), and memory for all logins that run at the same time."""

    time_cost: int = Field(default=Argon2Params().time_cost, ge=1)
    memory_kib: int = Field(default=Argon2Params().memory_kib, ge=8)
    parallelism: int = Field(default=Argon2Params().parallelism, ge=1)
    memory_budget_mib: int = Field(default=0, ge=0)
    waiting_logins: int = Field(default=UnlockLimits().waiting_logins, ge=1)


class AccessLogSection(Section):
    """The access log: one line per command."""

    folder: Path | None = None
    addresses: bool = True
    access_days: int = Field(default=AccessLogLimits().access_days, ge=1, le=10)
    error_days: int = Field(default=AccessLogLimits().error_days, ge=1, le=7)
    user_agent_max_chars: int = Field(default=AccessLogLimits().user_agent_max_chars, ge=0)


class MetricsSection(Section):
    """Where numbers for Prometheus are served; an empty list switches them off."""

    listen: tuple[str, ...] = ()
    connections_max: int = Field(default=16, ge=1)
    request_max_bytes: int = Field(default=8192, ge=64)
    timeout_s: float = Field(default=10.0, gt=0)
    sealed_interval_s: float = Field(default=60.0, ge=1)

    @field_validator("listen")
    @classmethod
    def _endpoints(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for text in check_endpoints(values):
            if text.startswith("unix:"):
                raise ValueError("write HOST:PORT or [IPv6 address]:PORT")
        return values


class LogSection(Section):
    """The process log; its level is ``log_level``."""

    format: Literal["text", "json"] = "text"
    errors: bool = True
    errors_days: int = Field(default=AccessLogLimits().server_days, ge=1, le=7)


class AccountsSection(Section):
    """What operators have to do before an account goes."""

    deletion_hold_days: float = Field(default=0.0, ge=0, le=3650)
    """Days from its making in which an account goes only if an operator says so twice; 0 switches it off."""


class BackupSection(Section):
    """Where snapshots go; an empty ``store`` switches them off."""

    store: str = ""
    public_key: Path | None = None
    endpoint: str | None = None
    region: str = "auto"
    credentials: Path | None = None
    drill_account: str | None = None
    drill_password: Path | None = None

    @field_validator("store")
    @classmethod
    def _place(cls, text: str) -> str:
        if text and not re.fullmatch(r"file:///.+|s3://[a-z0-9.-]{3,63}(/[0-9A-Za-z_/-]*)?", text):
            raise ValueError("write file:///FOLDER or s3://BUCKET/PREFIX")
        return text

    @model_validator(mode="after")
    def _complete(self) -> BackupSection:
        if self.store and self.public_key is None:
            raise ValueError("public_key is missing: make one with 'sealbox backup keygen'")
        if self.store and self.public_key is not None:
            try:
                read_public_key(self.public_key)
            except (KeyFileInvalid, StoreError):
                raise ValueError("public_key cannot be read: see 'sealbox backup keygen'") from None
        return self


StoreSection = section_of(StoreLimits)
MimeSection = section_of(MimeLimits)
StreamSection = section_of(StreamLimits)
LoadSection = section_of(LoadLimits)
ImapSection = section_of(ImapLimits)
Pop3Section = section_of(Pop3Limits)
LmtpSection = section_of(EnvelopeLimits)
AuthSection = section_of(SaslServiceLimits)
AuthHttpSection = section_of(AuthHttpLimits)
RecipientsSection = section_of(SocketmapLimits)
LoginSection = section_of(LoginLimits)
SnapshotsSection = section_of(BackupLimits)


class _File(Section):
    data: Path
    hostname: str = Field(default_factory=socket.gethostname, pattern=r"^[A-Za-z0-9.-]+$")
    workers: int = Field(default=0, ge=0, le=256)
    allow_unencrypted_volume: bool = False
    socket_group: str = ""
    drain_timeout_s: float = Field(default=10.0, ge=0)
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    tls: TlsSection
    listen: ListenSection = ListenSection()
    directory: DirectorySection = DirectorySection()
    node: NodeSection = NodeSection()
    proxy: ProxySection = ProxySection()
    argon2: Argon2Section = Argon2Section()
    log: LogSection = LogSection()
    access_log: AccessLogSection = AccessLogSection()
    accounts: AccountsSection = AccountsSection()
    store: StoreSection = StoreSection()  # type: ignore[valid-type]  # made from a dataclass above
    mime: MimeSection = MimeSection()  # type: ignore[valid-type]  # as above
    stream: StreamSection = StreamSection()  # type: ignore[valid-type]  # as above
    load: LoadSection = LoadSection()  # type: ignore[valid-type]  # as above
    imap: ImapSection = ImapSection()  # type: ignore[valid-type]  # as above
    pop3: Pop3Section = Pop3Section()  # type: ignore[valid-type]  # as above
    lmtp: LmtpSection = LmtpSection()  # type: ignore[valid-type]  # as above
    auth: AuthSection = AuthSection()  # type: ignore[valid-type]  # as above
    auth_http: AuthHttpSection = AuthHttpSection()  # type: ignore[valid-type]  # as above
    recipients: RecipientsSection = RecipientsSection()  # type: ignore[valid-type]  # as above
    https: HttpsSection = HttpsSection()
    setup: SetupSection = SetupSection()
    dns: DnsSection = DnsSection()
    login: LoginSection = LoginSection()  # type: ignore[valid-type]  # as above
    metrics: MetricsSection = MetricsSection()
    backup: BackupSection = BackupSection()
    snapshots: SnapshotsSection = SnapshotsSection()  # type: ignore[valid-type]  # as above

    @field_validator("socket_group")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            return name and grp.getgrnam(name).gr_name
        except KeyError:
            raise ValueError("there is no such group") from None

    @field_validator("data")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        if not path.is_absolute():
            raise ValueError("write an absolute path")
        return path

    @model_validator(mode="after")
    def _door(self) -> _File:
        self.https.check_listening(self.listen.https)
        self.node.check_listening("node_lmtp", self.listen.node_lmtp)
        self.node.check_listening("node_auth_http", self.listen.node_auth_http)
        return self


@dataclass(frozen=True, slots=True)
class Config:
    """A checked configuration, as values of the packages that it configures."""

    path: Path
    data: Path
    hostname: str
    workers: int
    allow_unencrypted_volume: bool
    socket_group: str
    drain_timeout_s: float
    log_level: str
    log: LogSection
    tls: TlsSection
    listen: ListenSection
    directory: DirectorySection
    node: NodeSection
    proxy: ProxySection
    access_log: AccessLogSection
    accounts: AccountsSection
    unlock: UnlockLimits
    store: StoreLimits
    mime: MimeLimits
    stream: StreamLimits
    load: LoadLimits
    imap: ImapLimits
    pop3: Pop3Limits
    lmtp: EnvelopeLimits
    auth: SaslServiceLimits
    auth_http: AuthHttpLimits
    recipients: SocketmapLimits
    door: DoorSettings
    login: LoginLimits
    metrics: MetricsSection
    backup: BackupSection
    snapshots: BackupLimits
    text: str = field(repr=False)
    """What it was read from."""

    @property
    def setup_facts(self) -> SetupFacts:
        """What mail programs are told."""
        return self.door.facts(self.hostname)

    @property
    def log_folder(self) -> Path:
        """Where access and error logs lie."""
        return self.access_log.folder or self.data / "log"

    @property
    def log_settings(self) -> LogSettings:
        """How processes log."""
        folder = self.log_folder if self.log.errors else None
        return LogSettings(self.log_level, self.log.format, folder)

    @property
    def log_limits(self) -> AccessLogLimits:
        """For how long the files in ``log_folder`` are kept."""
        access = self.access_log
        return AccessLogLimits(
            access.access_days, access.error_days, access.user_agent_max_chars, self.log.errors_days
        )


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "extra_forbidden":
            return f"there is no setting '{where}': see example.toml for all of them"
        case "missing":
            return f"the setting '{where}' is missing"
        case _:
            text = str(error["msg"]).removeprefix("Value error, ")
            # What concerns several sections says so itself.
            return f"'{where}': {text[:1].lower()}{text[1:]}" if where else text


def _checked(text: str, path: Path) -> _File:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(path, (f"this is not TOML: {exc}",)) from None
    try:
        return _File.model_validate(tree)
    except ValidationError as exc:
        raise ConfigError(path, tuple(_sentence(error) for error in exc.errors())) from None


def parse(text: str, path: Path) -> Config:
    """A configuration from TOML text; ``path`` is only for messages.

    Raises:
        ConfigError: naming every mistake.
    """
    file = _checked(text, path)
    workers = file.workers or os.cpu_count() or 1
    store, imap, lmtp = (
        limits_of(file.store, StoreLimits),
        limits_of(file.imap, ImapLimits),
        limits_of(file.lmtp, EnvelopeLimits),
    )
    # No protocol may announce a message size that the store would refuse.
    largest = store.max_message_bytes
    return Config(
        path=path,
        data=file.data,
        hostname=file.hostname,
        workers=workers,
        allow_unencrypted_volume=file.allow_unencrypted_volume,
        socket_group=file.socket_group,
        drain_timeout_s=file.drain_timeout_s,
        log_level=file.log_level,
        log=file.log,
        tls=file.tls,
        listen=file.listen,
        directory=file.directory,
        node=file.node,
        proxy=file.proxy,
        access_log=file.access_log,
        accounts=file.accounts,
        unlock=_unlock_limits(file.argon2, workers),
        store=store,
        mime=limits_of(file.mime, MimeLimits),
        stream=limits_of(file.stream, StreamLimits),
        load=limits_of(file.load, LoadLimits),
        imap=dataclasses.replace(imap, append_max_bytes=min(imap.append_max_bytes, largest)),
        pop3=limits_of(file.pop3, Pop3Limits),
        lmtp=dataclasses.replace(lmtp, message_max_bytes=min(lmtp.message_max_bytes, largest)),
        auth=limits_of(file.auth, SaslServiceLimits),
        auth_http=limits_of(file.auth_http, AuthHttpLimits),
        recipients=limits_of(file.recipients, SocketmapLimits),
        door=DoorSettings(file.https, file.setup, file.dns),
        login=limits_of(file.login, LoginLimits),
        metrics=file.metrics,
        backup=file.backup,
        snapshots=limits_of(file.snapshots, BackupLimits),
        text=text,
    )


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: it cannot be read, or naming every mistake in it.
    """
    try:
        return parse(path.read_text("utf-8"), path)
    except (OSError, UnicodeDecodeError):
        raise ConfigError(path, ("the file cannot be read",)) from None


def argon2_memory_mib(section: Argon2Section, workers: int) -> int:
    """MiB that logins may use in all ``workers`` together: the setting, or what suits the machine.

    More than two runs per core at a time make no login faster. Each worker has room for at least one.
    """
    run_mib = -(-section.memory_kib // 1024)
    suits = min(memory_mib() // 8, 2 * run_mib * (os.cpu_count() or 1))
    return max(section.memory_budget_mib or suits, run_mib * workers)


def _unlock_limits(argon2: Argon2Section, workers: int) -> UnlockLimits:
    return UnlockLimits(
        argon2_memory_mib(argon2, workers) // workers,
        argon2.waiting_logins,
        Argon2Params(argon2.time_cost, argon2.memory_kib, argon2.parallelism),
    )


def argon2_params(section: object) -> Argon2Params:
    """The cost of new keyslots from an ``[argon2]`` section.

    Raises:
        pydantic.ValidationError: a value is wrong.
    """
    checked = Argon2Section.model_validate(section)
    return Argon2Params(checked.time_cost, checked.memory_kib, checked.parallelism)


def deletion_hold_days(section: object) -> float:
    """How long a new account is held, from an ``[accounts]`` section.

    Raises:
        pydantic.ValidationError: a value is wrong.
    """
    return AccountsSection.model_validate(section).deletion_hold_days


def mail_limits(store: object, mime: object) -> tuple[StoreLimits, MimeLimits]:
    """The bounds on accounts and messages from the sections ``[store]`` and ``[mime]``.

    Raises:
        pydantic.ValidationError: a value is wrong.
    """
    return (
        limits_of(StoreSection.model_validate(store), StoreLimits),
        limits_of(MimeSection.model_validate(mime), MimeLimits),
    )


def find(config: Path | None, data: Path | None) -> Path:
    """The configuration file: the one named, the one in the data root, or the system's."""
    if config is not None:
        return config
    if data is not None:
        return data / FILE_NAME
    return next((path for path in DEFAULT_PATHS if path.exists()), DEFAULT_PATHS[0])
