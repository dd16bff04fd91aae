"""The door: what is served, to whom, and that looking uses nothing up."""

from __future__ import annotations

import dataclasses

import pytest
from https_world import APP_PASSWORD, FACTS, OWNER, PASSWORD, RECOVERY_KEY, TOKEN, HttpsWorld

from mailstore.errors import AccountDisabled, AuthenticationFailed, Busy, PasswordUnusable, StorageFull
from mailstore.model import AccessProtocol
from protocols.https.facts import SetupFacts
from protocols.limits import LoginLimits

INVITE, WELCOME = f"/invite/{TOKEN}", f"/welcome/{OWNER}"
CHOSEN = b"password=a+password+of+my+own&again=a+password+of+my+own"
AUTOCONFIG = "/.well-known/autoconfig/mail/config-v1.1.xml"


def test_looking_at_a_link_uses_nothing_up(world: HttpsWorld) -> None:
    """A program that shows previews of links fetches them; nothing is even looked up for it."""
    for method in ("GET", "HEAD"):
        for path in (INVITE, WELCOME, "/invite/nothing-like-it"):
            assert world.ask(f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).status == 200
    assert world.accounts.asked == []
    assert world.post(INVITE, b"as=other").status == 200


@pytest.mark.parametrize("path", [INVITE, WELCOME])
def test_a_page_of_another_site_presses_no_button(world: HttpsWorld, path: str) -> None:
    """It would count as an attempt of the visitor whose browser sends it, or use a link up."""
    foreign = world.post(path, b"as=other&" + CHOSEN, more="Sec-Fetch-Site: cross-site\r\n")
    assert foreign.status == 403
    assert world.accounts.asked == []
    assert world.post(path, b"as=other&" + CHOSEN, more="Sec-Fetch-Site: same-origin\r\n").status == 200


def test_the_page_is_the_same_whether_or_not_there_is_an_invitation(world: HttpsWorld) -> None:
    """But for the link itself, in the form; its code changes with it."""
    other = f"/invite/{'0' * 40}"
    pages = [world.get(path).text.replace(path, "LINK").partition("<svg")[0] for path in (INVITE, other)]
    assert pages[0] == pages[1]


def test_the_button_gives_settings_and_password_once(world: HttpsWorld) -> None:
    """The second time it gives nothing, in the same words as for a link that never was."""
    answer = world.post(INVITE, b"as=other")
    assert answer.status == 200
    assert APP_PASSWORD in answer.text
    assert "imap.example.org" in answer.text
    again, never = world.post(INVITE, b"as=other"), world.post(f"/invite/{'0' * 40}", b"as=other")
    assert (again.status, never.status) == (410, 410)
    assert again.body == never.body
    assert APP_PASSWORD not in again.text


def test_apples_devices_get_a_signed_profile(world: HttpsWorld) -> None:
    """As a file that Settings opens."""
    answer = world.post(INVITE, b"as=apple")
    assert answer.headers["content-type"] == "application/x-apple-aspen-config"
    assert answer.headers["content-disposition"] == 'attachment; filename="mail.mobileconfig"'
    assert answer.body == b"signed " + world.signed[0]
    assert APP_PASSWORD.encode() in world.signed[0]


def test_only_what_the_app_password_may_use_is_shown(world: HttpsWorld) -> None:
    """Settings that do not work with it only confuse."""
    world.accounts.protocols = frozenset({AccessProtocol.POP3})
    text = world.post(INVITE, b"as=other").text
    assert "pop.example.org" in text
    assert "imap.example.org" not in text
    assert "smtp.example.org" not in text
    assert "<svg" not in text


def test_an_app_password_for_pop3_gives_a_profile_for_pop3(world: HttpsWorld) -> None:
    """It would not work by IMAP."""
    world.accounts.protocols = frozenset({AccessProtocol.POP3})
    world.post(INVITE, b"as=apple")
    assert b"EmailTypePOP" in world.signed[0]


@pytest.mark.parametrize(
    ("protocols", "facts", "sends"),
    [
        (None, FACTS, True),
        (None, dataclasses.replace(FACTS, smtp=()), False),
        ({AccessProtocol.IMAP}, FACTS, False),
        ({AccessProtocol.IMAP, AccessProtocol.SMTP}, FACTS, True),
    ],
)
def test_the_invitation_decides_whether_a_profile_sets_up_sending(
    protocols: set[AccessProtocol] | None, facts: SetupFacts, sends: bool
) -> None:
    """An app password without the scope smtp would be refused there, with each message."""
    world = HttpsWorld(facts=facts)
    world.accounts.protocols = None if protocols is None else frozenset(protocols)
    assert world.post(INVITE, b"as=apple").status == 200
    assert (b"smtp.example.org" in world.signed[0]) is sends
    assert (b"OutgoingPasswordSameAsIncomingPassword" in world.signed[0]) is sends


def test_where_imap_is_not_offered_the_profile_is_for_pop3() -> None:
    """Though the app password may do all."""
    world = HttpsWorld(facts=dataclasses.replace(FACTS, imap=()))
    assert world.post(INVITE, b"as=apple").status == 200
    assert b"EmailTypePOP" in world.signed[0]
    assert b"pop.example.org" in world.signed[0]


@pytest.mark.parametrize(
    ("protocol", "facts", "button", "other"),
    [
        (AccessProtocol.SMTP, FACTS, b"as=apple", b"as=other"),
        (AccessProtocol.POP3, dataclasses.replace(FACTS, pop3=()), b"as=apple", None),
        (AccessProtocol.POP3, dataclasses.replace(FACTS, pop3=()), b"as=other", None),
    ],
)
def test_a_button_that_cannot_give_what_the_link_is_for_uses_nothing_up(
    protocol: AccessProtocol, facts: SetupFacts, button: bytes, other: bytes | None
) -> None:
    """No profile without mail to receive, and no settings of a service that is not there."""
    world = HttpsWorld(facts=facts)
    world.accounts.protocols = frozenset({protocol})
    answer = world.post(INVITE, button)
    assert answer.status == 409
    assert "This link is not for that" in answer.text
    assert TOKEN in world.accounts.unused
    if other is not None:
        assert APP_PASSWORD in world.post(INVITE, other).text


def test_the_owner_of_a_new_account_chooses_a_password(world: HttpsWorld) -> None:
    """And goes on to set up a device."""
    answer = world.post(WELCOME, CHOSEN)
    assert answer.status == 200
    assert world.accounts.passwords == [PASSWORD]
    assert RECOVERY_KEY in answer.text
    assert f'action="{INVITE}"' in answer.text


@pytest.mark.parametrize(("valid_s", "said"), [(3600, "an hour"), (1200, "20 minutes")])
def test_the_owner_is_told_how_long_the_first_devices_link_works(
    world: HttpsWorld, valid_s: int, said: str
) -> None:
    """As long as it really does."""
    world.accounts.device_valid_s = valid_s
    assert f"This works once, within {said}." in world.post(WELCOME, CHOSEN).text


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (b"password=short&again=short", "8 to 200 characters"),
        (b"password=a+long+password&again=another+one", "not the same"),
        (b"password=%s&again=%s" % (b"x" * 201, b"x" * 201), "8 to 200 characters"),
        (b"", "8 to 200 characters"),
        (b"password=a+long+password", "not the same"),
    ],
)
def test_password_min_chars_and_password_max_chars(world: HttpsWorld, form: bytes, said: str) -> None:
    """A typing error does not use the link up, and is no attempt."""
    answer = world.post(WELCOME, form)
    assert answer.status == 400
    assert said in answer.text
    assert world.accounts.asked == []
    assert world.post(WELCOME, CHOSEN).status == 200


def test_a_password_that_cannot_be_one(world: HttpsWorld) -> None:
    """The store's rules are asked as well."""
    world.accounts.trouble = PasswordUnusable()
    answer = world.post(WELCOME, CHOSEN)
    assert answer.status == 400
    assert "cannot be a password" in answer.text


@pytest.mark.parametrize(
    ("trouble", "status"), [(AccountDisabled(), 410), (Busy(), 503), (StorageFull(), 503)]
)
def test_trouble_of_ours_is_no_failure_of_theirs(
    world: HttpsWorld, trouble: AuthenticationFailed | Busy | StorageFull, status: int
) -> None:
    """It is answered 503 as often as it happens, and the link works afterwards."""
    world.accounts.trouble = trouble
    if status == 503:
        assert [world.post(INVITE, b"as=other").status for _ in range(8)] == [status] * 8
    else:
        assert world.post(INVITE, b"as=other").status == status
    world.accounts.trouble = None
    assert world.post(INVITE, b"as=other").status == 200


@pytest.mark.parametrize(
    ("path", "host"),
    [
        (AUTOCONFIG, "example.org"),
        (AUTOCONFIG, "autoconfig.example.org"),
        ("/mail/config-v1.1.xml", "autoconfig.example.org"),
        ("/mail/config-v1.1.xml?emailaddress=ann%40example.org", "autoconfig.elsewhere.example"),
        (f"{AUTOCONFIG}?emailaddress=ann%40EXAMPLE.org", "mail.example.org"),
    ],
)
def test_thunderbird_finds_its_settings(world: HttpsWorld, path: str, host: str) -> None:
    """At both places, for the domain of the address or of the host."""
    answer = world.get(path, host)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/xml; charset=utf-8")
    assert '<emailProvider id="example.org">' in answer.text


@pytest.mark.parametrize(
    "path",
    ["/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml", "/AUTODISCOVER/AUTODISCOVER.XML"],
)
def test_outlook_finds_its_settings(world: HttpsWorld, path: str) -> None:
    """In any case of letters, asked by POST or by GET."""
    question = b"<Autodiscover><Request><EMailAddress>ann@example.org</EMailAddress></Request></Autodiscover>"
    posted, got = world.post(path, question), world.get(f"{path}?Email=ann%40example.org")
    assert posted.status == 200
    assert posted.body == got.body
    assert "<LoginName>ann@example.org</LoginName>" in posted.text


def test_mail_servers_find_the_policy(world: HttpsWorld) -> None:
    """At its own host alone (RFC 8461, section 3.3)."""
    answer = world.get("/.well-known/mta-sts.txt", "mta-sts.example.org")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.text.startswith("version: STSv1\r\nmode: testing\r\nmx: mx1.example.org\r\n")
    assert world.get("/.well-known/mta-sts.txt", "example.org").status == 404


@pytest.mark.parametrize(
    ("path", "host"),
    [
        (AUTOCONFIG, "elsewhere.example"),
        (f"{AUTOCONFIG}?emailaddress=ann%40elsewhere.example", "example.org"),
        (f"{AUTOCONFIG}?emailaddress=%00%0a", "example.org"),
        ("/autodiscover/autodiscover.xml", "example.org"),
        ("/autodiscover/autodiscover.xml?Email=elsewhere", "example.org"),
        ("/.well-known/mta-sts.txt", "mta-sts.elsewhere.example"),
        ("/", "example.org"),
        ("/favicon.ico", "example.org"),
        ("/invite", "example.org"),
        ("/invite/" + "0" * 100, "example.org"),
        ("/../../etc/passwd", "example.org"),
        ("/templates/base.html", "example.org"),
        ("http://example.org/", "example.org"),
    ],
)
def test_there_is_nothing_else(world: HttpsWorld, path: str, host: str) -> None:
    """For no domain of others, and no other path."""
    assert world.get(path, host).status == 404


def test_nobody_learns_who_has_an_account(world: HttpsWorld) -> None:
    """Two addresses of one domain differ in the address alone."""
    answers = [
        world.get(f"/autodiscover/autodiscover.xml?email={name}%40example.org").text.replace(name, "NAME")
        for name in ("joe", "nobody")
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("path", "status"),
    [(INVITE, 200), ("/nothing", 404), (f"{AUTOCONFIG}?emailaddress=a%40example.org", 200)],
)
def test_browsers_are_told_to_load_keep_and_tell_nothing(world: HttpsWorld, path: str, status: int) -> None:
    """Whatever is answered."""
    answer = world.get(path)
    assert answer.status == status
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in policy
    assert {name: answer.headers[name] for name in ("referrer-policy", "cache-control")} == {
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_a_refusal_says_so_too(world: HttpsWorld) -> None:
    """Its headers are those of all."""
    answer = world.ask(b"GET / HTTP/1.1\r\n\r\n")
    assert answer.status == 400
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"])
def test_other_methods_are_refused(world: HttpsWorld, method: str) -> None:
    """RFC 9110, section 15.5.6; what they call themselves is not logged."""
    answer = world.ask(f"{method} {INVITE} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert world.logged == [("- invite", "405")]


def test_documents_are_not_posted_to(world: HttpsWorld) -> None:
    """Only Outlook does that, for its own."""
    assert world.post(AUTOCONFIG, b"").headers["allow"] == "GET, HEAD"


def test_request_timeout_s() -> None:
    """Whoever sends a request octet by octet has no more time than others."""
    world = HttpsWorld(request_timeout_s=10.0)
    slow = world.connect()
    for octet in b"GET / HTTP/1.1":
        assert slow.say(bytes([octet])) == b""
        world.clock.advance(0.7)
    world.clock.advance(1.0)
    assert slow.closed
    assert slow.hear() == b""


def test_connections_max_and_connections_per_address_max() -> None:
    """Further ones are closed; those of others go on."""
    world = HttpsWorld(connections_max=3, connections_per_address_max=2)

    def accepted(address: str) -> bool:
        peer = type("Peer", (), {"host": address})()
        return world.factory.buildProtocol(peer) is not None

    assert [accepted("192.0.2.1"), accepted("192.0.2.1"), accepted("192.0.2.1")] == [True, True, False]
    assert [accepted("192.0.2.2"), accepted("192.0.2.3")] == [True, False]


def test_behind_a_proxy_the_client_is_the_one_that_it_names() -> None:
    """The last address is the proxy's own word; those before are whatever the client has written."""
    world = HttpsWorld(LoginLimits(free_failures=0, first_delay_s=8.0), behind_proxy=True)
    assert world.get("/", more="X-Forwarded-For: 203.0.113.9, 198.51.100.7\r\n").status == 404
    assert world.access_log.entries[0].address == "198.51.100.7"
    assert world.get("/").status == 400  # the proxy is not set up as it has to be
    assert world.get("/", more="X-Forwarded-For: unknown\r\n").status == 400
    limits = world.factory.limits
    assert limits.connections_per_address_max == limits.connections_max


def test_without_a_proxy_nobody_is_believed(world: HttpsWorld) -> None:
    """The address is that of the connection."""
    world.get("/", more="X-Forwarded-For: 198.51.100.7\r\n")
    assert world.access_log.entries[0].address == "192.0.2.7"


def test_the_access_log_has_no_link(world: HttpsWorld) -> None:
    """Nor an address, nor what was typed; programs are cut to their limit."""
    world.get(INVITE, more=f"User-Agent: Browser {'x' * 300}\r\n")
    world.post(INVITE, b"as=other")
    world.post(INVITE, b"as=other")
    world.post(WELCOME, CHOSEN)
    world.get(f"{AUTOCONFIG}?emailaddress=joe%40example.org")
    world.get("/secret-path")
    assert world.logged == [
        ("GET invite", "200"),
        ("POST invite", "200"),
        ("POST invite", "410"),
        ("POST welcome", "200"),
        ("GET autoconfig", "200"),
        ("GET nothing", "404"),
    ]
    assert [entry.failed for entry in world.access_log.entries] == [False, False, True, False, False, True]
    shown = repr(world.access_log.entries)
    for secret in (TOKEN[:12], OWNER[:12], "joe", "own", "secret-path"):
        assert secret not in shown
    assert len(world.access_log.entries[0].user_agent) == 120
