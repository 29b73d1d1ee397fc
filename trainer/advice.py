"""What a corpus gives to learn from, judged as the trade judges it, and what would give more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from trainer.material import Material
from trainer.mining import NEEDS
from trainer.silver import Yield

__all__ = ["advice", "idle_rules"]

FEW, SWEET, PLENTY, MANY = 1_000, 5_000, 20_000, 50_000
PROSE_RULES = ("cloze", "keyphrase", "adjacent")
"""The rules that need no structure, only text."""
WORTH_WRITING = ("question", "alias", "definition", "ticket", "heading")
"""The rules that teach most, whose material people can add: the best first."""
NAMED = 3


def idle_rules(yields: Sequence[Yield], rules: Collection[str]) -> dict[str, str]:
    """Those of ``rules`` that left no pair, and why: what the corpus has none of, or which filter took all."""
    reasons: dict[str, str] = {}
    found = {item.rule: item for item in yields}
    for rule in rules:
        item = found.get(rule)
        if item is None:
            reasons[rule] = f"found no {NEEDS[rule]}"
        elif not item.silver:
            reasons[rule] = f"all of {item.mined} left out: {_taken_by(item)}"
    return reasons


def advice(material: Material, yields: Sequence[Yield], rules: Collection[str], wanted: int) -> list[str]:
    """Sentences for whoever owns the documents: how much there is, what is odd, and what would give more.

    Args:
        material: what was mined.
        yields: of every rule that was tried.
        rules: the rules of the recipe that is to be trained.
        wanted: how many pairs a training wants at least.
    """
    pairs = sum(item.silver for item in yields if item.rule in rules)
    idle = idle_rules(yields, NEEDS)
    sentences = [*_oddities(material, yields, idle), _amount(pairs, wanted)]
    if pairs < FEW:
        lacking = [NEEDS[rule] for rule in WORTH_WRITING if rule in idle][:NAMED]
        more = f"{'; '.join(lacking)}, none of which it has" if lacking else "more documents of the same kind"
        sentences.append(f"What would give more: {more}.")
        if unused := [item for item in yields if item.silver and item.rule not in rules]:
            names = ", ".join(f"{item.rule} {item.silver}" for item in unused)
            sentences.append(f"This recipe leaves unused: {names}.")
    return sentences


def _amount(pairs: int, wanted: int) -> str:
    if pairs < wanted:
        return f"{pairs} usable pairs are too few to tune on: {wanted} are wanted (trainer.min_pairs), 1,000 do good."
    if pairs < FEW:
        return f"{pairs} usable pairs are few: below 1,000 a gain is seldom beyond doubt."
    if pairs < SWEET:
        return f"{pairs} usable pairs are enough to gain from; 5,000 to 20,000 are the sweet spot."
    if pairs <= PLENTY:
        return f"{pairs} usable pairs: the sweet spot (5,000 to 20,000)."
    if pairs <= MANY:
        return f"{pairs} usable pairs are plenty; above 20,000 better ones help more than more of them."
    return f"{pairs} usable pairs: above 50,000 returns diminish, a sample teaches as much in less time."


def _oddities(material: Material, yields: Sequence[Yield], idle: Collection[str]) -> list[str]:
    """What about the corpus itself stands in the way."""
    found = []
    documents, groups = len(material.documents), Counter(group for group in material.section_groups if group >= 0)
    copies = groups.total() - len(groups)
    if 2 * copies > groups.total():
        found.append(
            f"{copies} of {groups.total()} sections say nearly what another one says: such copies add nothing to "
            "learn; check that the corpus holds each document once."
        )
    elif all(rule in idle for rule in NEEDS if rule not in PROSE_RULES):
        found.append(
            "No structure was found (headings, titles, questions, names, definitions, tables): only what stands "
            "together in running text can be learned from, which taught little in every comparison so far."
        )
    if documents == 1:
        found.append(
            "The corpus is one document: none can be held out to judge by, so give questions with --questions, or "
            "split it into several files."
        )
    mined, clear = sum(item.mined for item in yields), sum(item.clear for item in yields)
    if mined and 2 * clear < mined:
        found.append(f"{mined - clear} of {mined} pairs went because their anchors name too many sections.")
    return found


def _taken_by(item: Yield) -> str:
    if not item.clear:
        return "their anchors are asked about in the questions, or name too many sections"
    if not item.distinct:
        return "they say what pairs of another rule say"
    return "their texts stand in very many documents" if not item.telling else "anchor and text share no words"
