"""The verb tokens: who may ask a server over HTTP."""

from __future__ import annotations

import click

from retrieval.console import Duration, Invocation, pass_invocation

__all__ = ["tokens"]


@click.group(invoke_without_command=True)
@click.pass_context
def tokens(context: click.Context) -> None:
    """Add, list and revoke the tokens that let clients in over HTTP."""
    if context.invoked_subcommand is None:
        context.invoke(list_tokens)


@tokens.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(["search", "reindex"]),
    help="What it allows; may be given twice.",
)
@click.option("--expires", type=Duration(), help="How long it is good for, such as 90d, 12h or 2w (default: always).")
@pass_invocation
def add(invocation: Invocation, name: str, scopes: tuple[str, ...], expires: float | None) -> None:
    """Make a token called NAME and print it; only its hash is kept, so it cannot be shown again."""
    from server.tokens import SCOPES, TokenFile

    file = TokenFile(invocation.workspace())
    first = not file.exists()
    token = file.add(name, [scope for scope in SCOPES if scope in scopes], expires)
    if first:
        invocation.note("Servers of this workspace ask for a token from their next start on.")
    invocation.emit({"name": name, "token": token}, token)


@tokens.command("list")
@pass_invocation
def list_tokens(invocation: Invocation) -> None:
    """List the tokens: names, scopes and times, never the tokens themselves."""
    from server.tokens import TokenFile

    known = TokenFile(invocation.workspace()).tokens()
    lines = [
        f"{token.name:<20}  {' '.join(token.scopes):<14}  made {token.created:%Y-%m-%d}  "
        + ("expired" if token.expired else f"until {token.expires:%Y-%m-%d %H:%M} UTC" if token.expires else "for good")
        for token in known
    ]
    value = [{**token.model_dump(mode="json", exclude={"sha256"}), "expired": token.expired} for token in known]
    invocation.emit(value, "\n".join(lines) or "no tokens: `shoptalk tokens add NAME --scope search` makes one")


@tokens.command()
@click.argument("name")
@pass_invocation
def revoke(invocation: Invocation, name: str) -> None:
    """Revoke the token called NAME; servers that run refuse it at once."""
    from server.tokens import TokenFile

    TokenFile(invocation.workspace()).revoke(name)
    invocation.emit({"revoked": name}, f"revoked {name}")
