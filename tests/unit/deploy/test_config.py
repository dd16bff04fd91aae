"""The configuration: the example is complete and true, mistakes are named all at once."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import deploy
from deploy import config
from deploy.config_listen import ListenSection
from deploy.first_run import make_certificate
from mailstore.model import AccessProtocol

EXAMPLE = (Path(deploy.__file__).parent / "example.toml").read_text("utf-8")
UNSET = {
    ("store", "max_messages"),
    ("store", "quota_bytes"),
    ("access_log", "folder"),
    ("snapshots", "lifecycle_days"),
}
"""Settings whose default is "not set"; the example shows a value all the same."""


@pytest.fixture
def usable(tmp_path: Path) -> str:
    """The smallest configuration that loads."""
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    return f'data = "{tmp_path}"\n[tls]\ncertificate = "{tmp_path}/c.pem"\nprivate_key = "{tmp_path}/k.pem"\n'


def uncommented(text: str) -> dict[str, Any]:
    """The example with every default spelled out."""
    return tomllib.loads(re.sub(r"^#(\w+ = )", r"\1", text, flags=re.M))


def test_example_loads(tmp_path: Path) -> None:
    """The example, pointed at files that exist, is a valid configuration with and without comments."""
    make_certificate(tmp_path / "certificate.pem", tmp_path / "private-key.pem")
    make_certificate(tmp_path / "node.pem", tmp_path / "node.key")
    shutil.copy(tmp_path / "node.pem", tmp_path / "nodes-ca.pem")
    text = EXAMPLE.replace("/etc/sealbox/tls", str(tmp_path))
    assert config.parse(text, Path("example.toml")).data == Path("/var/lib/sealbox")
    spelled = re.sub(r"^#(\w+ = )", r"\1", text, flags=re.M)
    assert config.parse(spelled, Path("example.toml")).hostname == "mail.example.org"


def test_example_names_every_setting_with_its_default(usable: str) -> None:
    """What the example shows as default is the default, and nothing is left out."""
    shown = uncommented(EXAMPLE)
    loaded = config.parse(usable, Path("x"))
    for section in (
        "store",
        "mime",
        "stream",
        "load",
        "imap",
        "pop3",
        "lmtp",
        "auth",
        "auth_http",
        "recipients",
        "login",
        "snapshots",
    ):
        limits = getattr(loaded, section)
        defaults = {one.name: getattr(type(limits)(), one.name) for one in dataclasses.fields(limits)}
        expected = {name: value for name, value in defaults.items() if (section, name) not in UNSET}
        assert {k: v for k, v in shown[section].items() if (section, k) not in UNSET} == expected
    assert set(shown["argon2"]) == set(config.Argon2Section.model_fields)
    assert shown["argon2"] == config.Argon2Section().model_dump()
    assert set(shown["access_log"]) == set(config.AccessLogSection.model_fields)
    assert {k: tuple(v) for k, v in shown["listen"].items()} == ListenSection().model_dump()
    for section in ("https", "setup", "dns"):
        defaults = getattr(loaded.door, section).model_dump()
        assert set(shown[section]) == set(defaults)
        paths = {"certificate", "private_key", "dkim_record"}
        assert {name: shown[section][name] for name in set(defaults) - paths} == {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in defaults.items()
            if name not in paths
        }
    defaults = loaded.directory.model_dump()
    assert set(shown["directory"]) == set(defaults)
    assert {**shown["directory"], "key_file": None} == defaults
    proxy = loaded.proxy.model_dump()
    assert {name: type(proxy[name])(value) for name, value in shown["proxy"].items()} == proxy
    files = dict.fromkeys(("certificate", "private_key", "ca"))
    assert {**shown["node"], **files} == loaded.node.model_dump()
    assert files.keys() <= shown["node"].keys()
    assert set(shown["backup"]) == set(config.BackupSection.model_fields)
    assert (shown["backup"]["store"], shown["backup"]["region"]) == ("", "auto")
    assert {k: v for k, v in shown["metrics"].items() if k != "listen"} == {
        k: v for k, v in config.MetricsSection().model_dump().items() if k != "listen"
    }
    assert shown["metrics"]["listen"] == []
    assert shown["log"] == config.LogSection().model_dump()
    top = set(config._File.model_fields)
    assert set(shown) == top


def test_every_mistake_is_named_at_once(usable: str) -> None:
    """One run of check-config shows all that is wrong."""
    text = 'colour = "blue"\n' + usable + '[listen]\nimaps = ["nowhere"]\n[imap]\nidle_timeout_s = -1\n'
    with pytest.raises(config.ConfigError) as caught:
        config.parse(text, Path("x"))
    assert sorted(caught.value.mistakes) == [
        "'imap.idle_timeout_s': input should be greater than or equal to 0",
        "'listen.imaps': write HOST:PORT, [IPv6 address]:PORT or unix:/path",
        "there is no setting 'colour': see example.toml for all of them",
    ]


def test_missing_files_and_broken_toml(tmp_path: Path) -> None:
    """A missing certificate, a missing setting and text that is no TOML each get a sentence."""
    with pytest.raises(config.ConfigError) as caught:
        config.parse('data = "relative"\n[tls]\ncertificate = "/nowhere/c"\n', Path("x"))
    assert sorted(caught.value.mistakes) == [
        "'data': write an absolute path",
        "'tls.certificate': the file is missing or cannot be read",
        "the setting 'tls.private_key' is missing",
    ]
    with pytest.raises(config.ConfigError, match="this is not TOML"):
        config.parse("= =", Path("x"))
    with pytest.raises(config.ConfigError, match="cannot be read"):
        config.load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ('url = "mysql://db/x"', "write postgresql://"),
        ('url = "postgresql://sealbox:secret@db/x"', "no password here"),
        ('url = "postgresql://db/x?password=secret"', "no password here"),
        ('key_file = "key"', "write an absolute path"),
        ("connect_timeout_s = 0", "greater than or equal to 2"),
        ("connections = 0", "greater than or equal to 1"),
    ],
)
def test_where_the_directory_is_has_to_make_sense(usable: str, settings: str, why: str) -> None:
    """Above all no password: the configuration is in the snapshots."""
    with pytest.raises(config.ConfigError, match=why) as caught:
        config.parse(f"{usable}[directory]\n{settings}\n", Path("x"))
    assert "secret" not in str(caught.value)


def test_without_the_driver_postgresql_is_refused_by_name(
    usable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra, which is asked for only where it is used."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delattr("mailstore.directory.postgresql", raising=False)
    for loaded in [one for one in sys.modules if one.startswith("mailstore.directory.p")]:
        if loaded != "mailstore.directory.places":
            monkeypatch.delitem(sys.modules, loaded)
    assert config.parse(usable, Path("x")).directory.place() is None
    with pytest.raises(config.ConfigError, match=r"pip install .sealbox\[postgresql\]"):
        config.parse(f'{usable}[directory]\nurl = "postgresql://db/x"\n', Path("x"))


def test_certificate_and_key_have_to_fit(usable: str, tmp_path: Path) -> None:
    """A key of another certificate is found before the server starts."""
    make_certificate(tmp_path / "c2.pem", tmp_path / "k2.pem")
    with pytest.raises(config.ConfigError, match="belong together"):
        config.parse(usable.replace("k.pem", "k2.pem"), Path("x"))


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("127.0.0.1:993", True),
        ("[::]:993", True),
        ("unix:/run/x.sock", True),
        ("localhost:993", False),
        ("127.0.0.1:0", False),
        ("127.0.0.1:65536", False),
        ("::1:993", False),
        ("", False),
        ("unix:relative", False),
    ],
)
def test_endpoints(text: str, good: bool, usable: str) -> None:
    """Addresses are numbers and ports, or absolute socket paths."""
    written = usable + f'[listen]\nlmtp = ["{text}"]\n'
    if good:
        assert config.parse(written, Path("x")).listen.lmtp == (text,)
    else:
        with pytest.raises(config.ConfigError):
            config.parse(written, Path("x"))


def test_retention_cannot_pass_the_promise(usable: str) -> None:
    """Nobody can configure access logs beyond 10 days or error logs beyond 7."""
    with pytest.raises(config.ConfigError) as caught:
        config.parse(usable + "[access_log]\naccess_days = 11\nerror_days = 8\n", Path("x"))
    assert len(caught.value.mistakes) == 2


def test_mistakes_of_every_kind_are_named_together(tmp_path: Path) -> None:
    """Unknown names, ranges, limits that a room refuses and files that do not fit: all in one run."""
    (tmp_path / "x.pem").write_text("no certificate")
    text = (
        f'colour = 1\ndata = "{tmp_path}"\n[tls]\ncertificate = "{tmp_path}/x.pem"\n'
        f'private_key = "{tmp_path}/x.pem"\n[mime]\nmax_depth = 5000\n[access_log]\naccess_days = 11\n'
    )
    with pytest.raises(config.ConfigError) as caught:
        config.parse(text, Path("x"))
    assert sorted(mistake.split(":")[0] for mistake in caught.value.mistakes) == [
        "'access_log.access_days'",
        "'mime'",
        "'tls'",
        "there is no setting 'colour'",
    ]


def test_no_message_may_be_so_large_that_it_could_never_be_filed(usable: str, tmp_path: Path) -> None:
    """The setting is named, and the most it can be."""
    with pytest.raises(config.ConfigError) as found:
        config.parse(usable + "[store]\nmax_message_bytes = 262144001\n", tmp_path)
    assert found.value.mistakes == ("'store': max_message_bytes can be 262144000 at most",)


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        (
            '[listen]\nhttps = ["0.0.0.0:443"]\n[https]\nbehind_proxy = true\n',
            "'listen.https': behind_proxy speaks in the clear: write 127.0.0.1:PORT, [::1]:PORT or unix:/",
        ),
        (
            '[listen]\nhttps = ["unix:/run/x"]\n',
            "'listen.https': a Unix socket is for a proxy: set https.behind_proxy",
        ),
        (
            '[node]\nname = "A"\n',
            "'node.name': write lower-case letters, digits and hyphens, 63 at most",
        ),
        (
            '[listen]\nnode_lmtp = ["unix:/run/x"]\n',
            "'listen.node_lmtp': write HOST:PORT or [IPv6 address]:PORT: other machines connect to it",
        ),
        (
            '[listen]\nnode_lmtp = ["127.0.0.1:2424"]\n',
            "'listen.node_lmtp': set name, certificate, private_key and ca in [node]",
        ),
        (
            '[listen]\npop3_proxied = ["unix:/run/x"]\n',
            "'listen.pop3_proxied': write HOST:PORT or [IPv6 address]:PORT: other machines connect to it",
        ),
        (
            '[listen]\nauth_proxied = ["127.0.0.1:9143"]\n',
            "'listen.auth_proxied': write unix:/path: what is said there must not leave the machine",
        ),
        (
            '[listen]\nauth_http = ["192.0.2.1:9143"]\n',
            "'listen.auth_http': write 127.0.0.1:PORT, [::1]:PORT or unix:/path; others use node_auth_http",
        ),
        (
            '[listen]\nnode_auth_http = ["127.0.0.1:9143"]\n',
            "'listen.node_auth_http': set name, certificate, private_key and ca in [node]",
        ),
        (
            '[proxy]\nnetworks = ["192.0.2.1/24"]\n',
            "'proxy.networks': write addresses or networks, such as 192.0.2.1 or 192.0.2.0/24",
        ),
        (
            '[node]\nname = "a"\ncertificate = "/nowhere.pem"\n',
            "'node': certificate, private_key and ca are needed all three, or none of them",
        ),
        (
            '[https]\ncertificate = "/nowhere.pem"\n',
            "'https': certificate and private_key are needed both, or none of them",
        ),
        (
            '[https]\ncertificate = "/nowhere.pem"\nprivate_key = "/nowhere.pem"\n',
            "'https': certificate and private_key cannot be read, or do not fit",
        ),
        (
            "[https]\npassword_min_chars = 100\npassword_max_chars = 50\n",
            "'https': password_min_chars is more than password_max_chars",
        ),
        ('[setup]\nname = "a\\u0001b"\n', "'setup.name': string should match pattern"),
        ('[setup]\nurl = "http://mail.example.org"\n', "'setup.url': string should match pattern"),
        (
            "[setup]\nimap_port = 0\npop3_port = 0\n",
            "'setup': imap_port and pop3_port are both 0: mail programs need one of them",
        ),
        ('[dns]\nmx = ["a b"]\n', "'dns.mx': write names of hosts, in lower case"),
        ("[dns]\nmta_sts_max_age_s = 60\n", "'dns.mta_sts_max_age_s': input should be greater than"),
    ],
)
def test_a_mistake_about_the_door_names_its_setting(usable: str, settings: str, mistake: str) -> None:
    """Also one that concerns two sections."""
    with pytest.raises(config.ConfigError) as caught:
        config.parse(usable + settings, Path("x"))
    (said,) = caught.value.mistakes
    assert said.startswith(mistake)


def test_mail_programs_are_told_the_name_of_the_server_unless_others_are_set(usable: str) -> None:
    """What is not set follows ``hostname``; a port of 0 is not offered."""
    facts = config.parse('hostname = "Mail.example.org"\n' + usable, Path("x")).setup_facts
    assert (facts.name, facts.url) == ("mail.example.org", "https://mail.example.org")
    assert [(one.host, one.port, one.starttls) for one in (*facts.imap, *facts.pop3, *facts.smtp)] == [
        ("mail.example.org", 993, False),
        ("mail.example.org", 995, False),
        ("mail.example.org", 465, False),
        ("mail.example.org", 587, True),
    ]
    assert facts.policy.mx == ("mail.example.org",)
    settings = '[setup]\nsmtp_host = "out.example.org"\nsmtp_port = 0\npop3_port = 0\n'
    settings += '[dns]\nmx = ["mx.example.org"]\n'
    facts = config.parse(usable + settings, Path("x")).setup_facts
    assert [(one.host, one.port) for one in facts.smtp] == [("out.example.org", 587)]
    assert facts.pop3 == ()
    settings = "[setup]\nsmtp_port = 0\nsmtp_starttls_port = 0\n"
    assert AccessProtocol.SMTP not in config.parse(usable + settings, Path("x")).setup_facts.offered
    assert facts.policy.mx == ("mx.example.org",)
