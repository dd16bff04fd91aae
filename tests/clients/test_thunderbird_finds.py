"""Thunderbird finds its settings by itself: a user types the address and the password, nothing else."""

from __future__ import annotations

import base64
import re
import shutil
import ssl
from pathlib import Path

import pytest
from day import Day
from day_thunderbird import NEEDS, Thunderbird
from running import Server, eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not all(map(shutil.which, NEEDS)), reason="Thunderbird or Xvfb is not installed"),
]

DOMAIN = "thunder.example"
ADDRESS, PASSWORD = f"ada@{DOMAIN}", "correct horse battery staple"

_TRUST = """
const certificate = Cc["@mozilla.org/security/x509certdb;1"]
  .getService(Ci.nsIX509CertDB).constructX509FromBase64(given[0]);
const overrides = Cc["@mozilla.org/security/certoverride;1"].getService(Ci.nsICertOverrideService);
for (const [host, port] of given[1]) {
  overrides.rememberValidityOverride(host, port, {}, certificate, false);
}
"""

_FIND = """
const { FindConfig } = ChromeUtils.importESModule("resource:///modules/accountcreation/FindConfig.sys.mjs");
const looking = FindConfig.parallelAutoDiscovery(given[0], given[1], new AbortController().signal);
const { value: config } = await looking.next();
if (!config?.incoming) {
  return null;
}
const shown = server =>
  [server.type, server.hostname, server.port, server.socketType, server.auth, server.username];
return {
  source: config.source,
  name: config.displayName,
  incoming: shown(config.incoming),
  others: config.incomingAlternatives.map(shown),
  outgoing: shown(config.outgoing),
  prefersAnother: config.outgoing.useGlobalPreferredServer,
};
"""


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server with another domain and an account there."""
    return Server(tmp_path / "data", environment={"XDG_STATE_HOME": str(tmp_path / "state")})


def test_thunderbird_finds_its_settings_from_the_address_alone(server: Server, tmp_path: Path) -> None:
    """By the functions that its dialogue calls; the DNS leads autoconfig.DOMAIN to the door."""
    server.start()
    try:
        server.cli("account", "add", ADDRESS, "--password-stdin", stdin=PASSWORD + "\n")
        day = Day("Thunderbird", server, tmp_path)
        bird = Thunderbird(
            day,
            {
                "network.dns.localDomains": f"autoconfig.{DOMAIN},{DOMAIN}",
                "network.socket.forcePort": f"443={server.info['https']}",
                "mailnews.auto_config.fetchFromISP.sslOnly": True,
                # Nobody outside is asked, so what is found is ours.
                "mailnews.auto_config_url": "",
                "mailnews.mx_service_url": "",
            },
        )
        try:
            pem = Path(server.info["cafile"]).read_text("ascii")
            certificate = base64.b64encode(ssl.PEM_cert_to_DER_cert(pem)).decode()
            # Exceptions are kept for the port that is really connected to.
            door = server.info["https"]
            bird.run_alone(_TRUST, certificate, [[f"autoconfig.{DOMAIN}", door], [DOMAIN, door]])
            found = eventually(lambda: bird.run_alone(_FIND, DOMAIN, ADDRESS), 60.0)
            assert bird.quit() == 0
        finally:
            bird.kill()
    finally:
        server.stop()
    name = "%EMAILADDRESS%"
    assert found == {
        "source": "xml",
        "name": "Sealbox on this machine",
        "incoming": ["imap", "localhost", server.info["imaps"], 3, 3, name],
        "others": [["pop3", "localhost", server.info["pop3s"], 3, 3, name]],
        # Nothing sends here: Thunderbird needs to be told of one, and prefers another if it has any.
        "outgoing": ["smtp", "localhost", 465, 3, 3, name],
        "prefersAnother": True,
    }
    log = "".join(path.read_text("ascii") for path in (server.data / "log").glob("access-*"))
    assert re.search(r'"user_agent":"[^"]*Thunderbird[^"]*","command":"GET autoconfig"', log)
