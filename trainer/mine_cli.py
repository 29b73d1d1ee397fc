"""``shoptalk mine``: what there is to learn from, before anything is trained."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval.console import Invocation, pass_invocation
from retrieval.errors import QuestionsError, ShoptalkError
from trainer.options import corpus_option, questions_option, recipe_option

if TYPE_CHECKING:
    from trainer.mined import Mined
    from trainer.pairs import Pair
    from trainer.recipes import Recipe
    from trainer.silver import Yield

__all__ = ["mine", "mined_text", "write_pairs"]

EXAMPLES_A_RULE = 3
SKIPPED_SHOWN = 20
COLUMNS = ("mined", "clear", "distinct", "telling", "silver", "kept")


@click.command()
@corpus_option
@recipe_option
@questions_option("Questions that training must not see, in BEIR's layout.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the pairs here, one JSON object a line."
)
@pass_invocation
def mine(invocation: Invocation, corpus: str, recipe: str | None, questions: Path | None, out: Path | None) -> None:
    """Mine training pairs from the documents and show them.

    Nothing is trained. Every rule is tried; the counts say how many pairs it mined, how many were left
    after each filter, and how many the recipe takes. Then come examples, the rules that found nothing, and
    what would give more.
    """
    from retrieval.embedders import load_local
    from trainer.advice import advice, idle_rules
    from trainer.mined import counted, mine_corpus
    from trainer.mining import RULES
    from trainer.questions import load_questions
    from trainer.recipes import find_recipe

    workspace = invocation.workspace()
    chosen = find_recipe(recipe or workspace.trainer.recipe, workspace.trainer.recipes)
    if out and not out.parent.is_dir():
        raise click.UsageError(f"--out: {out.parent} is no folder")
    asked = load_questions(questions) if questions else None
    with invocation.progress() as progress:
        mined = mine_corpus(
            workspace,
            workspace.corpus_name(corpus),
            # Of equal pairs the first is kept, so those of the recipe come first.
            tuple(dict.fromkeys((*chosen.every_rule, *RULES))),
            load_local("base", workspace),
            questions=asked,
            seed=workspace.trainer.seed,
            judged=False,
            progress=progress,
        )
    pairs = mined.take(chosen, workspace.trainer.max_pairs, workspace.trainer.seed)
    yields = counted(mined.yields, pairs)
    idle = idle_rules(yields, RULES)
    hints = advice(mined.material, yields, chosen.every_rule, workspace.trainer.min_pairs)
    if asked is None:
        hints.append(_judged_by(mined, chosen, workspace.trainer.seed))
    if out:
        write_pairs(out, pairs)
        invocation.note(f"Wrote {len(pairs)} pairs to {out}")
    value = {
        "recipe": chosen.name,
        "documents": len(mined.material.documents),
        "sections": len(mined.material.sections),
        "passages": len(mined.material.passages),
        "pairs": len(pairs),
        "rules": [asdict(item) for item in yields],
        "idle": idle,
        "advice": hints,
        "leaks": mined.leaks,
        "skipped": [asdict(item) for item in mined.material.skipped],
    }
    invocation.emit(value, mined_text(mined, chosen.name, len(pairs), yields, idle, hints))


def _judged_by(mined: Mined, recipe: Recipe, seed: int) -> str:
    """What ``tune`` would judge by without questions, or why it would refuse to."""
    from trainer.mined import hold_out_clear, require_questions

    # As for tune, where the tutorial's chunks are no questions.
    found = [pair for pair in mined.found if pair.rule in recipe.every_rule] or mined.found
    try:
        held, asked, _ = hold_out_clear(mined.material, found, seed)
        require_questions(asked)
    except QuestionsError as error:
        return f"Without --questions tune would refuse: {error}."
    return (
        f"Without --questions tune holds out {len(asked.all)} questions of {len(held)} documents to judge by, and "
        "learns from the rest."
    )


def write_pairs(file: Path, pairs: Sequence[Pair]) -> None:
    """Write ``pairs`` as JSON, one object a line: anchor, positive, rule, document_id."""
    try:
        with file.open("w", encoding="utf-8") as stream:
            for pair in pairs:
                record = {name: getattr(pair, name) for name in ("anchor", "positive", "rule", "document_id")}
                stream.write(json.dumps(record, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ShoptalkError(f"--out {file} cannot be written ({error.strerror or error})") from None


def mined_text(
    mined: Mined, recipe: str, taken: int, yields: Sequence[Yield], idle: dict[str, str], hints: Sequence[str]
) -> str:
    """What was mined as a person reads it."""
    material = mined.material
    lines = [
        f"{len(material.documents)} documents, {len(material.sections)} sections, {len(material.passages)} passages; "
        f"recipe {recipe} takes {taken} pairs",
        "",
        f"{'rule':<16}" + "".join(f"{'taken' if name == 'kept' else name:>10}" for name in COLUMNS),
        *(f"{item.rule:<16}" + "".join(f"{getattr(item, name):>10}" for name in COLUMNS) for item in yields),
        "clear: the anchor is no question asked, and names few sections; distinct: no near-duplicate; telling: the",
        "text is not one of very many documents; silver: anchor and text share words, where the rule wants it",
    ]
    if mined.leaks:
        lines.append(f"{mined.leaks} pairs left out because their anchor is nearly one of the questions")
    if idle:
        lines += ["", "idle:", *(f"  {rule}: {reason}" for rule, reason in idle.items())]
    generator = random.Random(0)
    for rule in dict.fromkeys(pair.rule for pair in mined.kept):
        some = [pair for pair in mined.kept if pair.rule == rule]
        lines += ["", f"{rule}:"]
        for pair in generator.sample(some, min(EXAMPLES_A_RULE, len(some))):
            lines.append(f"  {_short(pair.anchor)}  ->  {_short(pair.positive)}  ({pair.document_id})")
    if material.skipped:
        lines += ["", f"{len(material.skipped)} left out:"]
        lines += [f"  {item.path}: {item.reason}" for item in material.skipped[:SKIPPED_SHOWN]]
    return "\n".join([*lines, "", *hints])


def _short(text: str, width: int = 90) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
