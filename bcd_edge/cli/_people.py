"""The commands below `bcd-edge serve` for people, machines and the audit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bcd_edge.cli._results import reading, writing
from bcd_edge.cli._types import DURATION

if TYPE_CHECKING:
    from collections.abc import Callable

ROLES = click.Choice(["reviewer", "submitter", "admin"])


def below_results(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the argument RESULTS, which comes last and may be left out."""
    kind = click.Path(path_type=Path, file_okay=False)
    return click.argument("results", envvar="BCD_EDGE_RESULTS", default=".", type=kind)(function)


@click.group(short_help="People and machines that may sign in.")
def user() -> None:
    """Add, list and change the people and machines that may use a server.

    A reviewer sees pictures and decides, a submitter hands pictures in and reads their answers, an admin may do everything. RESULTS is the
    server's folder, BCD_EDGE_RESULTS if not given, else the current folder.
    """


@user.command("add")
@click.argument("name")
@below_results
@click.option("--role", type=ROLES, required=True, help="What the account may do.")
@click.option("--machine", is_flag=True, help="Without a password; then see: bcd-edge serve token add")
def add_user(name: str, results: Path, role: str, machine: bool) -> None:
    """Add an account; the password is asked for, or read from standard input.

    \b
    Examples:
      bcd-edge serve user add "Dr Rao" results/ --role reviewer
      bcd-edge serve user add scanner results/ --role submitter --machine
    """
    import shlex

    from bcd_edge.results import users

    password = None if machine else _password()
    with writing(results, begins=True) as opened:
        users.add(opened, name, role, password, by=users.this_account())
    click.echo(
        f"{users.checked_name(name)} may sign in as {role}."
        if password
        else f"Next: bcd-edge serve token add {shlex.quote(name)} {shlex.quote(str(results))}"
    )


@user.command("list")
@below_results
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_users(results: Path, as_json: bool) -> None:
    """List every account."""
    import json
    from dataclasses import asdict

    from bcd_edge.results import users
    from bcd_edge.results.summary import count

    with reading(results) as db:
        accounts = list(users.listed(db))
    if as_json:
        click.echo(json.dumps([asdict(account) for account in accounts], indent=1))
        return
    for account in accounts:
        ways = [*(["password"] if account.has_password else []), *([count(account.tokens, "token")] if account.tokens else [])]
        click.echo(f"{account.name}\t{account.role}\t{', '.join(ways) or 'cannot sign in'}{'  disabled' if account.is_disabled else ''}")


@user.command("disable")
@click.argument("name")
@below_results
def disable(name: str, results: Path) -> None:
    """End the sessions of an account and accept neither its password nor its tokens; what it reviewed stays."""
    _change(results, name, is_disabled=True)


@user.command("enable")
@click.argument("name")
@below_results
def enable(name: str, results: Path) -> None:
    """Let a disabled account sign in again."""
    _change(results, name, is_disabled=False)


@user.command("set-password")
@click.argument("name")
@below_results
def set_password(name: str, results: Path) -> None:
    """Change a password and end the account's sessions; it is asked for, or read from standard input."""
    _change(results, name, password=_password())


@user.command("set-role")
@click.argument("name")
@below_results
@click.option("--role", type=ROLES, required=True, help="What the account may do from now on.")
def set_role(name: str, results: Path, role: str) -> None:
    """Change what an account may do."""
    _change(results, name, role=role)


def _change(results: Path, name: str, **changes: Any) -> None:
    from bcd_edge.results import users

    with writing(results) as opened:
        users.change(opened, name, by=users.this_account(), **changes)
    click.echo("Changed; sessions of this account have ended.")


def _password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


@click.group(short_help="Tokens for machines.")
def token() -> None:
    """Make and revoke tokens, by which a machine acts as an account: it sends `Authorization: Bearer TOKEN`."""


@token.command("add")
@click.argument("user_name", metavar="USER")
@below_results
@click.option("--expires", type=DURATION, metavar="TIME", help="How long it is accepted, such as 90d.  [default: until it is revoked]")
def add_token(user_name: str, results: Path, expires: float | None) -> None:
    """Make a token and print it, this once."""
    from bcd_edge.results import users

    with writing(results) as opened:
        click.echo(users.add_token(opened, user_name, by=users.this_account(), lifetime_s=expires))


@token.command("list")
@below_results
def list_tokens(results: Path) -> None:
    """List every token by its number; what was printed once is not kept."""
    import time
    from datetime import datetime

    from bcd_edge.results import users
    from bcd_edge.results.clock import shown_time

    with reading(results) as db:
        for made in users.tokens(db):
            ends = shown_time(datetime.fromtimestamp(made.expires).astimezone().isoformat()) if made.expires else ""
            state = "revoked" if made.revoked_at else "expired" if made.expires and made.expires < time.time() else f"valid until {ends or 'revoked'}"
            click.echo(f"{made.id}\t{made.user}\t{state}")


@token.command("revoke")
@click.argument("number", type=int)
@below_results
def revoke_token(number: int, results: Path) -> None:
    """Stop accepting a token."""
    from bcd_edge.results import users

    with writing(results) as opened:
        users.revoke_token(opened, number, by=users.this_account())
    click.echo("Revoked.")


@click.group(short_help="Who saw and decided what.")
def audit() -> None:
    """List and verify the audit: who saw and decided what, when, from where."""


@audit.command("list")
@below_results
@click.option("--about", metavar="TEXT", help="Only what concerns this patient, user, or the picture whose SHA-256 begins so.")
@click.option("--who", metavar="NAME", help="Only what this user did.")
@click.option("--json", "as_json", is_flag=True, help="Print an entry per line as JSON.")
def list_audit(results: Path, about: str | None, who: str | None, as_json: bool) -> None:
    """List the entries, the earliest first."""
    import json
    from dataclasses import asdict

    from bcd_edge.outputs import printable
    from bcd_edge.results import audit as chain
    from bcd_edge.results.clock import shown_time

    with reading(results) as db:
        for entry in chain.entries(db, about=about, who=who):
            details = " ".join(f"{key}={value}" for key, value in entry.details.items() if not key.startswith("row"))
            columns = (str(entry.id), shown_time(entry.at), entry.who, entry.address, entry.action, entry.about, details)
            click.echo(json.dumps(asdict(entry)) if as_json else "\t".join(map(printable, columns)))


@audit.command("verify")
@below_results
@click.option(
    "--head", "heads", multiple=True, metavar="NUMBER:SHA-256", help="A head that was noted earlier; the chain must contain it. Repeatable."
)
def verify_audit(results: Path, heads: tuple[str, ...]) -> None:
    """Check that no entry was changed, removed, added or moved, and that reviews are as their entries say.

    Prints the head of the chain. Note it outside this computer, and give it by --head later: the chain alone cannot show that its last
    entries are missing, nor that somebody who may write the file has made all of it anew.

    Exit code: 0 everything is in order, 1 something was changed.
    """
    from bcd_edge.results import audit as chain

    with reading(results) as db:
        verified = chain.verify(db, heads)
    for problem in verified.problems:
        click.echo(problem, err=True)
    click.echo(f"{verified.entries:,} entries; head {verified.head}")
    if verified.problems:
        raise click.exceptions.Exit(1)
