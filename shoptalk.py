"""The command line: a lazy click group. Each verb lives in its package's cli.py.

Only the verb that is called is imported, so that ``shoptalk --help`` answers at once.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

VERSION = "0.1.0"

# verb → (where its command is, its one-line help). The help stands here so that listing the verbs
# imports none of them; a test holds it equal to the command's own.
VERBS: dict[str, tuple[str, str]] = {
    "init": ("retrieval.cli:init", "Write shoptalk.toml for a folder of documents."),
    "mine": ("trainer.mine_cli:mine", "Mine training pairs from the documents and show them."),
    "synthesize": (
        "trainer.synthesis_cli:synthesize",
        "Have Claude write questions about the documents, to tune on.",
    ),
    "tune": ("trainer.cli:tune", "Mine, split, train, evaluate, report, register and gate a model."),
    "evaluate": ("trainer.cli:evaluate", "Judge models on questions with known answers."),
    "models": ("trainer.models_cli:models", "List, compare, promote, roll back, prune and push model versions."),
    "index": ("retrieval.cli:index", "Bring the search index up to date with the documents."),
    "search": ("retrieval.cli:search", "Search a corpus and print the best passages."),
    "status": ("retrieval.cli:status", "Show the workspace: corpora, models, indexes, settings."),
    "doctor": (
        "retrieval.cli:doctor",
        "Check the installation, the machine and the workspace, and say how to mend what is wrong.",
    ),
    "serve": ("server.cli:serve", "Serve the corpora to Claude and other MCP clients."),
    "connect": ("server.connect_cli:connect", "Enter this workspace into an MCP client's configuration."),
    "tokens": ("server.tokens_cli:tokens", "Add, list and revoke the tokens that let clients in over HTTP."),
    "ask": ("agent.cli:ask", "Have Claude search the corpora and answer one question, with citations."),
    "chat": ("agent.cli:chat", "Talk with Claude, which searches the corpora, over as many questions as you like."),
    "evaluate-answers": (
        "agent.evaluating_cli:evaluate_answers",
        "Have Claude answer questions with known sources, and measure the answers.",
    ),
    "demo": ("trainer.cli:demo", "Run the whole loop on a real medical coding corpus, offline."),
}


def _global_options() -> list[click.Option]:
    """The options every verb takes, before or after its name."""
    return [
        click.Option(
            ["-w", "--workspace", "workspace"],
            type=click.Path(path_type=Path, file_okay=False),
            expose_value=False,
            callback=_remember("root"),
            help="The workspace folder (default: $SHOPTALK_WORKSPACE, else the current folder).",
        ),
        click.Option(
            ["--json", "json"],
            is_flag=True,
            default=None,
            expose_value=False,
            callback=_remember("json"),
            help="Answer in JSON on stdout.",
        ),
        click.Option(
            ["-q", "--quiet", "quiet"],
            is_flag=True,
            default=None,
            expose_value=False,
            callback=_remember("quiet"),
            help="Say nothing but the answer and errors.",
        ),
    ]


def _remember(name: str) -> Any:
    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        from retrieval.console import Invocation

        invocation = context.ensure_object(Invocation)
        if name == "root" and value is None and context.parent is None and "SHOPTALK_WORKSPACE" in os.environ:
            value = Path(os.environ["SHOPTALK_WORKSPACE"] or ".")
        if value is not None:
            setattr(invocation, name, value)
            invocation.named |= name == "root"

    return callback


def _accept_globals(command: click.Command) -> click.Command:
    if not any(parameter.name == "workspace" for parameter in command.params):
        command.params.extend(_global_options())
    if isinstance(command, click.Group):
        for child in command.commands.values():
            _accept_globals(child)
    return command


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs, in the order a person meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the verb ``cmd_name``."""
        if cmd_name not in VERBS:
            return None
        module, _, attribute = VERBS[cmd_name][0].partition(":")
        return _accept_globals(getattr(importlib.import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])


@click.command(
    cls=LazyGroup,
    params=_global_options(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, prog_name="shoptalk")
def command_line() -> None:
    """Turn a folder of documents into a retriever that speaks their language, and prove it."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every failure is one line on stderr and an exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for stream, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, stream) is None:
            # Closed by whoever started us, which means: from and to nowhere. No file may get its descriptor.
            setattr(sys, stream, Path(os.devnull).open(mode, encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal of Latin-1 shows what it has no sign for as \u30ad, as stderr does.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = command_line.main(args=arguments, prog_name="shoptalk", standalone_mode=False)
    except click.exceptions.Abort:
        # One more Ctrl-C ends it at once, without a word from whatever has yet to be tidied up.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:
        # Whoever read us is gone, or the disk is full; what is still buffered must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if not isinstance(error, BrokenPipeError):
            from retrieval.console import one_line
            from retrieval.errors import refusal_of

            click.echo(one_line(f"Error: {refusal_of(error)}"), err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"retrieval", "trainer", "server", "agent"}:
            raise
        click.echo(f"Error: {error.name} is not installed; pip install 'shoptalk[cpu]' (or [gpu])", err=True)
        sys.exit(1)
    except Exception as error:
        from retrieval.console import one_line
        from retrieval.errors import ShoptalkError

        if not isinstance(error, ShoptalkError):
            raise
        click.echo(one_line(f"Error: {error}"), err=True)
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
