"""The options that several of the trainer's verbs take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["corpus_option", "questions_option", "recipe_option"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

corpus_option = click.option("--corpus", default="", help="The corpus, where the workspace has several.")
recipe_option = click.option(
    "--recipe",
    metavar="NAME",
    help="How to mine and to train: structure, auto, seed, or one of trainer.recipes (default: trainer.recipe).",
)


def questions_option(help_text: str) -> Callable[[_Command], _Command]:
    """A folder of questions, and what they are for here."""
    return click.option("--questions", type=click.Path(path_type=Path, file_okay=False), help=help_text)
