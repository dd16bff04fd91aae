"""Every bound the mail protocols put on a peer: name, unit and default in one place.

Each server takes its dataclass as a parameter; the defaults follow what widely used servers allow.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class ImapLimits:
    """Bounds on one IMAP connection. Sizes in bytes, times in seconds."""

    line_max_bytes: int = 64 * KIB
    """All of a command but its literals, once logged in."""
    line_before_login_max_bytes: int = 64 * KIB
    """ID may have 30 values of 1,024 octets (RFC 2971 section 3.3), escaped in quoted strings."""
    append_max_bytes: int = 64 * MIB
    """One message in APPEND; announced as APPENDLIMIT (RFC 7889)."""
    append_total_max_bytes: int = 64 * MIB
    """All messages of one APPEND together (MULTIAPPEND, RFC 3502)."""
    append_messages_max: int = 1000
    """Messages of one APPEND."""
    literal_max_bytes: int = 128 * KIB
    """One literal of any command but APPEND, once logged in."""
    literal_before_login_max_bytes: int = 4 * KIB
    """Also what LITERAL- (RFC 7888 section 5) promises before login."""
    literals_total_max_bytes: int = 256 * KIB
    """Sum of a command's literals; an APPEND may have ``append_total_max_bytes`` more."""
    literals_worker_max_bytes: int = 512 * MIB
    """What commands have beyond ``literals_total_max_bytes`` in memory, all connections of a worker together.
    No address and no account may have more of it than is left for the others: at most half. Beyond it
    NO [UNAVAILABLE], so the client tries later. At least twice what one APPEND may have."""
    literals_total_before_login_max_bytes: int = 32 * KIB
    """Sum of a command's literals while nobody is logged in."""
    literals_per_command_max: int = 1000
    swallow_max_bytes: int = 1 * MIB
    """Refused input that is read and thrown away to stay in step; beyond it the connection ends."""
    nesting_max_depth: int = 100
    """Parentheses, NOT and OR inside each other."""
    search_keys_max: int = 2000
    search_ranges_max: int = 20_000
    """Ranges of all sets of numbers and UIDs in one search; ``1,3,5:9`` has three."""
    search_names_max: int = 1000
    """Mailbox names in all sources of one ESEARCH together (RFC 7377)."""
    list_items_max: int = 1000
    """Members of any parenthesised list (flags, patterns, header names, FETCH items ...)."""
    list_patterns_max_chars: int = 8192
    """All patterns with wildcards of one LIST together, each behind its reference."""
    sequence_ranges_max: int = 10_000
    message_limit: int = 100_000
    """Messages that clients are asked to name in one command, announced as MESSAGELIMIT (RFC 9738);
    0 announces nothing and limits nothing."""
    save_limit: int = 0
    """As ``message_limit``, for COPY and APPEND alone, announced as SAVELIMIT where that is 0."""
    message_limit_enforced: int = 1_000_000
    """Messages beyond which a command is cut short or refused; clients that do not know the extension take
    a part for all, so this has to be more than mailboxes have. Never less than what is announced."""
    live_searches_max: int = 10
    """Searches of one session that are kept up to date (RFC 5267)."""
    notify_groups_max: int = 100
    """Event groups of one NOTIFY (RFC 5465)."""
    notify_names_max: int = 1000
    """Mailbox names in one NOTIFY, in all groups together."""
    notify_mailboxes_max: int = 1000
    """Mailboxes whose messages a session may watch; one more ends its notifications."""
    notify_rest_factor: float = 9.0
    """How many times as long as a look at the account has taken a session waits before the next one."""
    url_max_bytes: int = 4000
    """One URL of CATENATE (RFC 4469)."""
    binary_items_max: int = 50
    """BINARY items of one FETCH (RFC 3516): each decodes a part."""
    metadata_entry_max_bytes: int = 256
    """The name of a METADATA entry (RFC 5464)."""
    metadata_value_max_bytes: int = 64 * KIB
    """The value of a METADATA entry; a longer one is answered NO [METADATA MAXSIZE]."""
    mailbox_name_max_bytes: int = 1000
    keyword_max_bytes: int = 100
    id_fields_max: int = 30
    id_value_max_bytes: int = 1024
    long_lines_max: int = 3
    """Over-long lines after which the connection ends."""
    bad_commands_max: int = 20
    """BAD answers in a row after which the connection ends."""
    bad_commands_before_login_max: int = 5
    login_timeout_s: float = 120.0
    """From connecting until login, whatever comes in between."""
    idle_timeout_s: float = 31 * 60.0
    """Without input once logged in; RFC 3501 section 5.4 asks for 30 minutes at least."""
    progress_interval_s: float = 15.0
    """Between progress reports while a command runs (INPROGRESS, RFC 9585)."""
    fetch_batch_rows: int = 1000
    store_batch_rows: int = 5000
    """Messages that one transaction of STORE changes; the session yields to others in between."""
    lines_batch_rows: int = 5000
    """Messages reported before the session yields to others."""
    fetch_content_batch_bytes: int = 512 * KIB
    write_chunk_bytes: int = 128 * KIB
    """Output gathered before waiting for the transport."""
    inflate_chunk_bytes: int = 64 * KIB
    """Most output taken at once from the decompressor (COMPRESS, RFC 4978)."""

    def __post_init__(self) -> None:
        """Refuse settings under which the largest messages could never be received.

        Raises:
            ValueError: one APPEND may have more than half of ``literals_worker_max_bytes``.
        """
        if self.literals_worker_max_bytes < 2 * max(self.append_max_bytes, self.append_total_max_bytes):
            raise ValueError("literals_worker_max_bytes must be twice append_max_bytes at least")


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """Thresholds above which a worker refuses background work (Apple's TN3189)."""

    lag_s: float = 0.25
    """The reactor's lag in seconds, a mean of ten."""
    waiting_jobs: int = 100
    """Database work that waits for a thread."""
    waiting_logins: int = 64
    """Logins that wait for a thread or for memory."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds on any connection, whatever its protocol. Sizes in bytes, times in seconds."""

    pipelined_max_bytes: int = 128 * KIB
    """Input received but not yet taken by the session; beyond it the socket is not read."""
    write_stall_timeout_s: float = 300.0
    """A peer that reads next to nothing for this long is disconnected."""
    write_stall_bytes: int = 4 * KIB
    """What a peer has to take in ``write_stall_timeout_s`` to count as one that reads, however slowly."""
    close_wait_s: float = 2.0
    """How long a peer that has read everything may take to close its side."""
    stop_close_wait_s: float = 0.1
    """``close_wait_s`` while the server stops, so that clients that never close do not hold up a restart."""
    turn_max_s: float = 0.002
    """How long one connection may run before it yields to others, between two commands."""
    connections_max: int = 20_000
    """Connections of one listening port in one process."""
    connections_per_address_max: int = 200
    """Of one client address, or one /64 of IPv6; mail programs open several each, and offices share one."""


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """Bounds on attempts to log in. Times in seconds."""

    attempts_per_connection_max: int = 5
    free_failures: int = 2
    """Failures of one address (IPv6: of one /64) that cost no extra delay."""
    account_free_failures: int = 20
    """The same for one account: from all addresses together that have not opened it before, and from each
    one that has."""
    first_delay_s: float = 1.0
    """Time between the next two attempts; doubles with each further failure."""
    delay_max_s: float = 30.0
    forget_after_s: float = 900.0
    """After this long without attempts, an address or account starts afresh."""
    trusted_days: int = 10
    """Days for which an address that has opened an account is not slowed by what others try; 10 at most."""
    addresses_max: int = 32_768
    """Addresses remembered, and as many accounts, and pairs of them; changes with a restart."""
    waiting_per_address_max: int = 200
    """Logins of one address that wait for their time in one worker; more are told to try later."""
    waiting_max: int = 2000
    """Logins that wait for their time in one worker, from all addresses together."""
    list_scram: bool = False
    """Name SCRAM among the SASL mechanisms. It opens accounts with app passwords only, and programs
    that see it (mbsync, mutt) use nothing else; asked for unnamed it works all the same."""
    name_max_bytes: int = 512
    secret_max_bytes: int = 1024

    def __post_init__(self) -> None:
        """Refuse what the privacy policy rules out.

        Raises:
            ValueError: more than 10 days of a trace of who logged in from where.
        """
        if not 0 <= self.trusted_days <= 10:
            raise ValueError("trusted_days must be between 0 and 10")


@dataclass(frozen=True, slots=True)
class AccessLogLimits:
    """What the access log keeps and for how long."""

    access_days: int = 10
    error_days: int = 7
    user_agent_max_chars: int = 120
    server_days: int = 7
    """Of warnings and errors of the server itself, in ``server-*`` beside the others."""

    def __post_init__(self) -> None:
        """Refuse what the privacy policy rules out.

        Raises:
            ValueError: more than 10 days of access log or 7 of errors, or fewer than 1.
        """
        if not 1 <= self.access_days <= 10:
            raise ValueError("access_days must be between 1 and 10")
        if not 1 <= self.error_days <= 7:
            raise ValueError("error_days must be between 1 and 7")
        if not 1 <= self.server_days <= 7:
            raise ValueError("server_days must be between 1 and 7")


@dataclass(frozen=True, slots=True)
class EnvelopeLimits:
    """Bounds on connections that bring mail in envelopes, as LMTP's do. Sizes in bytes, times in seconds."""

    message_max_bytes: int = 64 * MIB
    """Announced as SIZE (RFC 1870); a larger message is answered 552."""
    data_total_max_bytes: int = 512 * MIB
    """Messages of all connections of a worker in memory; beyond it 452 4.3.1, so the sender tries later."""
    recipients_max: int = 1000
    """In one transaction; RFC 5321 section 4.5.3.1.8 asks for 100 at least. Beyond it 452 4.5.3."""
    refused_recipients_max: int = 100
    """Refused RCPT commands in one transaction; beyond it each further one is answered 452."""
    line_max_bytes: int = 4 * KIB
    """A command line with its CRLF; RFC 5321 section 4.5.3.1.4 asks for 512, extensions for more."""
    address_max_bytes: int = 320
    """Local part of 64, ``@``, domain of 255 (RFC 5321 section 4.5.3.1); also bounds the reverse-path."""
    parameters_max: int = 20
    """Parameters of one MAIL or RCPT."""
    received_headers_max: int = 100
    """More Received fields than this are a loop (RFC 5321 section 6.3)."""
    loop_scan_max_bytes: int = 1 * MIB
    """How much of a message is searched for Received fields; each server adds its own on top."""
    errors_max: int = 20
    """5xx answers to commands in a row after which the connection ends."""
    idle_timeout_s: float = 300.0
    """Without input; RFC 5321 section 4.5.3.2.7 asks for 5 minutes at least."""
    connections_max: int = 200
    """Connections of one worker at a time; further ones are answered 421."""


@dataclass(frozen=True, slots=True)
class ProxyLimits:
    """Bounds on the header by which a proxy names its client. Sizes in bytes, times in seconds."""

    header_max_bytes: int = 536
    """Of version 2 of the PROXY protocol; of version 1 it is 107. A longer one ends the connection."""
    header_timeout_s: float = 5.0
    """From connecting until the header is complete."""


@dataclass(frozen=True, slots=True)
class AuthHttpLimits:
    """Bounds on what a mail proxy asks before it passes logins on. Sizes in bytes, times in seconds."""

    head_max_bytes: int = 8 * KIB
    """A question, which is the head of an HTTP request; a longer one is answered 431."""
    request_timeout_s: float = 10.0
    """From connecting until the question is complete."""
    connections_max: int = 1000
    """Connections of one port in one worker; further ones are closed."""
    burst_per_address: int = 200
    """Logins for which one client address (IPv6: one /64) is answered at once, in each worker."""
    interval_s: float = 0.1
    """Between its logins beyond that; others are told to try again later."""
    forget_after_s: float = 60.0
    """After this long without a login an address may log in at once as often again."""
    addresses_max: int = 8192
    """Addresses remembered in each worker."""


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """Bounds on what other nodes are asked. Times in seconds."""

    connect_timeout_s: float = 5.0
    """To reach the other node and hear its greeting; beyond it its recipients are answered 451."""
    answer_timeout_s: float = 120.0
    """For each of its replies; for the first one to a message, its octets included."""
    silent_s: float = 5.0
    """For which nobody waits again for a node that was waited for in vain."""
    connections_max: int = 50
    """From one worker to one node at a time, for mail and as many for passwords; mail beyond it is answered
    451. A password beyond it takes the place of the oldest one of the client address (IPv6: /64) with most,
    if its own address has fewer; else it is tried again later."""


@dataclass(frozen=True, slots=True)
class SaslServiceLimits:
    """Bounds on programs that have passwords checked here. Sizes in bytes, times in seconds."""

    line_max_bytes: int = 8 * KIB
    """A line with its end; a longer one ends the connection. Dovecot's protocol asks for 8192."""
    requests_max: int = 100
    """Logins of one connection at a time; beyond it the oldest that waits for its client is forgotten."""
    answer_timeout_s: float = 9.0
    """From the last response of a client until the answer, the wait of guessers included; beyond it the
    client has to try later. Postfix waits for 10."""
    handshake_timeout_s: float = 30.0
    """From connecting until the handshake is complete."""
    idle_timeout_s: float = 3600.0
    """Without a request; Postfix then connects again when it has the next one."""
    connections_max: int = 2000
    """Connections of one worker at a time; each process of Postfix keeps one."""


@dataclass(frozen=True, slots=True)
class SocketmapLimits:
    """Bounds on mail servers that ask who gets mail here. Sizes in bytes, times in seconds."""

    request_max_bytes: int = 4 * KIB
    """The name of a map and a key; a longer request ends the connection. Postfix takes lines of 2048."""
    idle_timeout_s: float = 600.0
    """Without a request; Postfix ends its connections itself after some seconds."""
    connections_max: int = 2000
    """Connections of one worker at a time; each process of Postfix may have one."""


@dataclass(frozen=True, slots=True)
class Pop3Limits:
    """Bounds on POP3 connections. Sizes in bytes, times in seconds."""

    line_max_bytes: int = 512
    """A command line with its CRLF; RFC 2449 section 4 asks for 255."""
    sasl_line_max_bytes: int = 4 * KIB
    """A line that answers a SASL challenge (RFC 5034 section 4), and AUTH with its initial response."""
    login_timeout_s: float = 120.0
    """From connecting until login."""
    idle_timeout_s: float = 600.0
    """Without a command once logged in; RFC 1939 section 3 asks for 10 minutes at least."""
    bad_commands_max: int = 20
    """Bad commands in a row after which the connection ends."""
    bad_commands_before_login_max: int = 5
    retr_chunk_bytes: int = 256 * KIB
    """How much of a message is read from the store at once."""
    retr_ahead_bytes: int = 32 * KIB
    """Small messages that are read along with the one a program asks for, when it asks for one after the
    other; so much each session may keep of them."""
    write_chunk_bytes: int = 128 * KIB
    """Output gathered before waiting for the transport."""
    listing_chunk_lines: int = 1000
    """Lines of LIST or UIDL made at once."""
    top_lines_max: int = 1_000_000_000
    """The largest line count that TOP understands; it is the whole of any message."""
    login_delay_s: int = 0
    """Least time between two logins to one account (LOGIN-DELAY, RFC 2449 section 6.5) that has no other of
    its own (``sealbox account set``); 0 for none."""
    seen_batch_max: int = 100
    """Messages that RETR has sent whole before they are marked as read, where the account wants that; the
    rest is marked at QUIT."""
    connections_max: int = 5000
    """Connections of one worker at a time; further ones are closed."""


@dataclass(frozen=True, slots=True)
class HttpsLimits:
    """Bounds on connections to the HTTPS door. Sizes in bytes, times in seconds."""

    head_max_bytes: int = 16 * KIB
    """A request's first line with its header; a longer one is answered 431."""
    body_max_bytes: int = 16 * KIB
    """A form, or the question of Outlook; a longer one is answered 413."""
    request_timeout_s: float = 15.0
    """From connecting until the request is complete, whatever comes in between."""
    connections_max: int = 1000
    """At a time; further ones are closed."""
    connections_per_address_max: int = 50
    """Of one client address, or one /64 of IPv6; not behind a proxy, which shows them all as its own."""
    unseen_kept_s: float = 30.0
    """What an invitation gave waits so long for its visitor, who has hung up before seeing it."""
    password_min_chars: int = 8
    """Least length of the password that the owner of a new account chooses."""
    password_max_chars: int = 200
