"""sealbox domain, sealbox alias. Exit codes: see deploy/cli/sentences.py."""

import click

from deploy.cli.domain_show import show
from deploy.cli.quota import domain_limit, domain_limit_fields, domain_limit_text
from deploy.cli.root import EPILOG, Cli, command, find_account
from mailstore.account import init_root


@click.group(epilog=EPILOG)
def domain() -> None:
    """Add, list, limit, show and delete domains."""


domain.add_command(domain_limit)
domain.add_command(show)


@domain.command("add", epilog=EPILOG)
@click.argument("name")
@click.option("--default", "is_default", is_flag=True, help="Login names without a domain belong to it.")
@command
def add_domain(cli: Cli, name: str, is_default: bool) -> None:
    """Add a domain; the first one is the default. Mail for it is taken once it has accounts or aliases."""
    init_root(cli.root)
    with cli.directory() as directory:
        directory.add_domain(name)
        if is_default:
            directory.set_default_domain(name)
        default = directory.default_domain()
    cli.answer({"added": name, "default": default}, f"domain {name} added; the default is {default}")


@domain.command("list", epilog=EPILOG)
@command
def list_domains(cli: Cli) -> None:
    """List the domains; no mail is touched."""
    with cli.directory() as directory:
        names, default = directory.domains(), directory.default_domain()
        limits = directory.domain_limits()
    shown = {name: f"  {domain_limit_text(one)}" for name, one in limits.items()}
    lines = (f"{name}{'  (default)' if name == default else ''}{shown.get(name, '')}" for name in names)
    limited = {name: domain_limit_fields(one) for name, one in limits.items()}
    cli.answer({"domains": names, "default": default, "limits": limited}, *lines)
    if not names:
        cli.remark("there are no domains: 'sealbox domain add NAME' adds one")


@domain.command("delete", epilog=EPILOG)
@click.argument("name")
@command
def delete_domain(cli: Cli, name: str) -> None:
    """Delete a domain that has no addresses, so no mail is lost; mail for it is refused afterwards."""
    with cli.directory() as directory:
        directory.remove_domain(name)
    cli.answer({"deleted": name}, f"domain {name} deleted")


@click.group(epilog=EPILOG)
def alias() -> None:
    """Add, list and delete further addresses of accounts."""


@alias.command("add", epilog=EPILOG)
@click.argument("address")
@click.argument("account")
@command
def add_alias(cli: Cli, address: str, account: str) -> None:
    """Deliver mail for ADDRESS to ACCOUNT from now on."""
    with cli.directory() as directory:
        record = find_account(directory, account)
        directory.add_alias(address, record.account_id)
    cli.answer({"added": address, "account": record.name}, f"{address} goes to {record.name}")


@alias.command("list", epilog=EPILOG)
@click.argument("account", required=False)
@command
def list_aliases(cli: Cli, account: str | None) -> None:
    """List aliases, of one account or of all; no mail is touched."""
    with cli.directory() as directory:
        account_id = None if account is None else find_account(directory, account).account_id
        aliases = directory.aliases(account_id)
    fields = [{"address": entry.address, "account": entry.account_name} for entry in aliases]
    cli.answer({"aliases": fields}, *(f"{entry.address}  {entry.account_name}" for entry in aliases))
    if not aliases:
        cli.remark("there are no aliases: 'sealbox alias add ADDRESS ACCOUNT' adds one")


@alias.command("delete", epilog=EPILOG)
@click.argument("address")
@command
def delete_alias(cli: Cli, address: str) -> None:
    """Delete an alias: mail for it is refused from now on; what it has brought stays in its account."""
    with cli.directory() as directory:
        directory.remove_alias(address)
    cli.answer({"deleted": address}, f"alias {address} deleted")
