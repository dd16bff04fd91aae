"""What a domain may have: storage of each account, accounts, aliases; the same in every kind of directory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from directory_worlds import ANN, JOE, record

from mailstore.directory import NO_QUOTA, Contents, DomainLimits
from mailstore.errors import AccountExists, DomainFull, NoSuchDomain
from mailstore.keys import AccountId


def test_the_nearest_storage_limit_counts(directory):
    """The account's own, else that of the domain of its name, else the server's; 'none' is a limit, too."""
    directory.add_alias("info@example.org", JOE)
    directory.add_domain("example.com")
    directory.add_alias("joe@example.com", JOE)
    directory.limit_domain("example.com", quota_bytes=1)

    def limits(default):
        found = [directory.account(JOE), directory.login("joe@example.org"), directory.accounts()[0]]
        found += [
            directory.resolve(name) for name in ("joe+x@example.org", "info@example.org", "joe@example.com")
        ]
        return {one.limit_bytes(default) for one in found}

    assert (limits(None), limits(7)) == ({None}, {7})
    directory.limit_domain("EXAMPLE.org", quota_bytes=50)
    assert (limits(None), limits(7)) == ({50}, {50})
    assert directory.domain_limits() == {"example.com": DomainLimits(1), "example.org": DomainLimits(50)}
    directory.set_quota(JOE, 9)
    assert limits(7) == {9}
    directory.set_quota(JOE, NO_QUOTA)
    assert limits(7) == {None}
    directory.set_quota(JOE, None)
    directory.limit_domain("example.org", quota_bytes=NO_QUOTA)
    assert limits(7) == {None}
    directory.limit_domain("example.org", quota_bytes=None)
    assert (limits(7), directory.domain_limits()) == ({7}, {"example.com": DomainLimits(1)})
    for nobodys in ("example.net", "no domain"):
        with pytest.raises(NoSuchDomain):
            directory.limit_domain(nobodys, quota_bytes=1)


def test_a_domain_has_no_more_accounts_than_it_may(directory):
    """Counted by their names; those of other domains, aliases, and what is there already do not matter."""
    directory.add_alias("info@example.org", JOE)
    assert directory.limit_domain("EXAMPLE.org", accounts=2) == DomainLimits(accounts=2)
    directory.add_account(record(ANN, "ann@example.org"))
    third = record(AccountId("c" * 32), "bob@example.org")
    with pytest.raises(DomainFull):
        directory.add_account(third)
    with pytest.raises(AccountExists):
        directory.add_account(replace(third, name="ann@example.org"))
    directory.add_account(replace(third, name="bob@example.com"))
    directory.add_alias("bob@example.org", third.account_id)
    directory.limit_domain("example.org", accounts=0)
    assert directory.account(ANN) is not None
    directory.remove_account(ANN)
    with pytest.raises(DomainFull):
        directory.add_account(record(ANN, "ann@example.org"))
    directory.limit_domain("example.org", accounts=None)
    directory.add_account(record(ANN, "ann@example.org"))


def test_a_domain_has_no_more_aliases_than_it_may(directory):
    """Counted by their own domain, whosever they are; accounts do not matter."""
    directory.add_domain("example.com")
    directory.limit_domain("example.com", aliases=1)
    directory.add_alias("info@example.com", JOE)
    with pytest.raises(DomainFull):
        directory.add_alias("sales@example.com", JOE)
    with pytest.raises(AccountExists):
        directory.add_alias("info@example.com", JOE)
    directory.add_alias("sales@example.org", JOE)
    directory.add_account(record(ANN, "ann@example.com"))
    directory.remove_alias("info@example.com")
    directory.add_alias("sales@example.com", ANN)
    with pytest.raises(DomainFull):
        directory.add_alias("info@example.com", ANN)
    assert [one.address for one in directory.aliases()] == ["sales@example.com", "sales@example.org"]


def test_limits_are_set_one_by_one(directory):
    """What is not named stays; a domain without any is not listed."""
    assert directory.domain_limits() == {}
    directory.limit_domain("example.org", quota_bytes=5, aliases=0)
    assert directory.limit_domain("example.org", accounts=7) == DomainLimits(5, 7, 0)
    assert directory.limit_domain("example.org", aliases=None) == DomainLimits(5, 7)
    assert directory.domain_limits() == {"example.org": DomainLimits(5, 7)}
    directory.limit_domain("example.org", quota_bytes=None, accounts=None)
    assert directory.domain_limits() == {}


def test_those_who_come_at_once_do_not_pass_the_limit(directory, another):
    """The counting and the adding are one transaction, also of different processes."""
    directory.limit_domain("example.org", aliases=3)
    others = [another() for _ in range(3)]

    def add(number: int) -> bool:
        try:
            others[number % len(others)].add_alias(f"alias{number}@example.org", JOE)
        except DomainFull:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(add, range(12))) == 3
    assert len(directory.aliases()) == 3
    for other in others:
        other.close()


def test_a_filled_directory_keeps_what_is_more_than_it_may_have(another):
    """A domain may have been limited after it had them."""
    limits = {"example.org": DomainLimits(accounts=0, aliases=0)}
    contents = Contents.of("example.org", limits, [record()], [("info@example.org", JOE)])
    directory = another()
    assert directory.fill(contents)
    assert directory.contents() == contents
    with pytest.raises(DomainFull):
        directory.add_alias("sales@example.org", JOE)
    directory.close()
