"""What there is to learn from and to judge by: pairs mined from a corpus, questions, and what is kept from training."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from retrieval.console import Progress, silent
from retrieval.embedders import LocalEmbedder
from retrieval.errors import QuestionsError, SettingsError
from retrieval.indexing import passage_limit
from retrieval.workspace import Workspace
from trainer.material import Material, gather
from trainer.mining import RULES, SEED_RULES, mine, seed_chunks
from trainer.pairs import Pair
from trainer.question_store import SYNTHETIC_RULE
from trainer.questions import QuestionSet, answerable, kept_apart, left_out_told
from trainer.recipes import Recipe
from trainer.silver import Yield, balance, filter_pairs, unmistakable
from trainer.split import alike_documents, hold_out
from trainer.synthesis import synthetic_pairs

__all__ = ["Mined", "counted", "fair", "hold_out_clear", "mine_corpus", "require_enough", "require_questions"]

log = logging.getLogger(__name__)

MIN_DEV = 5
MIN_TEST = 10


@dataclass(frozen=True)
class Mined:
    """Pairs to learn from, the questions to judge by, and how both came about.

    ``kept`` are all pairs past the filters; `take` is what one recipe trains on.
    """

    material: Material
    kept: list[Pair]
    questions: QuestionSet
    masks: dict[int, str]
    held: frozenset[str]
    yields: list[Yield]
    leaks: int
    missing: list[str]
    notes: list[str]
    """What was left out of the questions that were given, and why."""
    found: list[Pair]
    """What the rules that read sections found, before any filter."""

    @cached_property
    def held_passages(self) -> frozenset[int]:
        """The passages of which nothing may be learned: of held-out documents, and copies of what is asked for."""
        passages = enumerate(self.material.passages)
        return frozenset(self.masks) | {place for place, passage in passages if passage.document_id in self.held}

    @cached_property
    def texts(self) -> list[str]:
        """Each passage as it is judged: embedded text, less what would give a mined question's answer away."""
        return [self.masks.get(place, passage.embedded_text) for place, passage in enumerate(self.material.passages)]

    @cached_property
    def plain_texts(self) -> list[str]:
        """Each passage as the index embeds it, nothing masked."""
        return [passage.embedded_text for passage in self.material.passages]

    @cached_property
    def headings(self) -> list[str]:
        """Of each passage, as it is judged; none of those with a mask, which would be given away by them."""
        passages = enumerate(self.material.passages)
        return ["" if place in self.masks else passage.embedded_heading for place, passage in passages]

    def take(self, recipe: Recipe, limit: int, seed: int) -> list[Pair]:
        """At most ``limit`` pairs by the recipe's rules; its filler rules only fill up what those leave."""
        limit = min(recipe.max_pairs, limit)
        pairs = balance([pair for pair in self.kept if pair.rule in recipe.rules], limit, seed)
        room = min(limit, recipe.fill_up_to) - len(pairs)
        if room > 0:
            pairs += balance([pair for pair in self.kept if pair.rule in recipe.filler_rules], room, seed)
        return pairs


def mine_corpus(
    workspace: Workspace,
    corpus: str,
    rules: Sequence[str],
    embedder: LocalEmbedder,
    *,
    questions: QuestionSet | None,
    seed: int,
    judged: bool = True,
    progress: Progress = silent,
) -> Mined:
    """Read, cut, mine, split and filter: everything before a model is trained.

    Without ``questions`` some documents are held out to be judged by, unless ``judged`` is false.

    Raises:
        QuestionsError: ``questions`` are not about this corpus, or none were given and too few could be mined.
        SettingsError: there is no such rule.
    """
    known = (*RULES, *SEED_RULES, SYNTHETIC_RULE)
    if unknown := [rule for rule in rules if rule not in known]:
        raise SettingsError(
            f"trainer.recipes: there is no mining rule {unknown[0]!r} for rules to name; there are {', '.join(known)}"
        )
    material = gather(workspace, corpus, embedder.count_tokens, passage_limit(workspace, embedder), progress)
    missing: list[str] = []
    notes: list[str] = []
    if questions:
        questions, missing, notes = fair(questions, material)
        for note in notes:
            log.warning("%s", note)
    found = mine(material, [rule for rule in rules if rule in RULES], seed)
    mined = list(found)
    if any(rule in SEED_RULES for rule in rules):
        mined += seed_chunks(material)
    if SYNTHETIC_RULE in rules:
        mined += synthetic_pairs(workspace, corpus, material)
    masks: dict[int, str] = {}
    held: frozenset[str] = frozenset()
    if questions:
        asked, usable = questions, mined
    elif not judged:
        asked, usable = QuestionSet((), (), "none"), mined
    else:
        # The tutorial's chunks are no questions, and what a model wrote must not judge: structure's pairs do.
        held, asked, masks = hold_out_clear(material, found or mine(material, list(RULES), seed), seed)
        asked_about = {material.passages[place].document_id for place in masks}
        usable = [
            pair
            for pair in mined
            if held.isdisjoint((pair.document_id, pair.said_in))
            # The tutorial's chunks are cut anyhow, so any of a document may be the passage that is asked for.
            and (pair.document_id not in asked_about if pair.rule in SEED_RULES else pair.passage not in masks)
        ]
    forbidden = [question.text for question in asked.all]
    kept, yields, leaks = filter_pairs(material, usable, forbidden, workspace.passages.language)
    return Mined(material, kept, asked, masks, held, yields, leaks, missing, notes, found)


def hold_out_clear(
    material: Material, found: Sequence[Pair], seed: int
) -> tuple[frozenset[str], QuestionSet, dict[int, str]]:
    """`hold_out` by what names one thing: of a question that leads to several the others would count as wrong."""
    return hold_out(material, unmistakable(material, found), seed)


def fair(questions: QuestionSet, material: Material) -> tuple[QuestionSet, list[str], list[str]]:
    """The questions that a corpus can judge by, split with no near copies on both sides.

    Returns:
        The questions; the answers that the corpus lacks; and what is to be said of both.

    Raises:
        QuestionsError: the corpus has no answer at all, so the questions are not about it.
    """
    asked, missing = answerable(questions, material.passages)
    notes = []
    if missing:
        named = "documents or sections named in the qrels are not in the corpus"
        notes.append(f"{len(missing)} {named} (the first is {missing[0]!r})")
    notes += left_out_told(questions, asked)
    # Near copies take seconds to find in a large corpus, and a split of the user's stays as it is.
    return asked if asked.seed is None else kept_apart(asked, alike_documents(material)), missing, notes


def counted(yields: Sequence[Yield], pairs: Sequence[Pair]) -> list[Yield]:
    """``yields`` with how many ``pairs`` of each rule are trained on."""
    taken = Counter(pair.rule for pair in pairs)
    return [replace(item, kept=taken[item.rule]) for item in yields]


def require_enough(workspace: Workspace, mined: Mined, pairs: int) -> None:
    """Refuse to go on with too few pairs to learn from, or too few questions to choose and to judge by.

    Raises:
        QuestionsError: it says how many there are, and what would give more.
    """
    wanted = workspace.trainer.min_pairs
    if pairs < wanted:
        raise QuestionsError(
            f"only {pairs} training pairs could be mined (at least {wanted} are wanted, 1,000 or more do good); "
            'more documents, headings, lists of synonyms ("Also called: …") or questions with answers would give more'
        )
    require_questions(mined.questions)


def require_questions(questions: QuestionSet) -> None:
    """Refuse to go on with too few questions to choose and to judge by.

    Raises:
        QuestionsError: it says how many there are.
    """
    dev, test = len(questions.dev), len(questions.test)
    if dev < MIN_DEV or test < MIN_TEST:
        raise QuestionsError(
            f"{dev} dev and {test} test questions are too few to choose and to judge by (at least {MIN_DEV} and "
            f"{MIN_TEST}); questions with the same answer stay on one side, so ask about more documents"
        )
