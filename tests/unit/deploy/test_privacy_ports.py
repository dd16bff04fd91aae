"""What the check of ports says of doors that a proxy comes to in the clear."""

from __future__ import annotations

from pathlib import Path

from privacy_world import made_root

from deploy.config import parse
from deploy.privacy.finding import State
from deploy.privacy.ports import ports


def test_a_door_in_the_clear_is_mentioned_where_others_may_be_on_the_network(tmp_path: Path) -> None:
    """Whether they are, nobody can see from here; on loopback there are none."""
    usual = made_root(tmp_path)
    doors = (
        'imap_proxied = ["127.0.0.1:1143", "192.0.2.1:1143"]\n'
        'pop3_proxied = ["[::1]:1110", "[2001:db8::1]:1110"]\n'
    )
    config = parse(usual.text.replace("[listen]\n", f"[listen]\n{doors}"), usual.path)
    found = list(ports(config, 0.0))
    assert [one.state for one in found] == [State.UNSEEN] * 2
    said = "".join(one.said for one in found)
    assert "imap_proxied at 192.0.2.1:1143" in said and "pop3_proxied at [2001:db8::1]:1110" in said
    assert list(ports(usual, 0.0)) == []
