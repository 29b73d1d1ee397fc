"""Train, dev and test by document group, with no leakage.

Where there are real questions they are the dev and test splits and every document may be mined.
Where there are none, some documents are held out whole: their pairs are the questions, and
nothing mined from them, or from what says nearly the same, is learned from.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from random import Random

from retrieval.errors import QuestionsError
from retrieval.passages import Passage
from trainer.material import Material, normalise
from trainer.mining import HEADING_RULES
from trainer.near_duplicates import near_duplicate_groups
from trainer.pairs import Pair, masked_text, says
from trainer.question_store import SYNTHETIC_RULE
from trainer.questions import MINED_EVIDENCE, Question, QuestionSet, Unit, path_unit, section_unit, split_questions

__all__ = ["alike_documents", "hold_out", "question_like"]

HELD_OUT_SHARE = 0.25
MAX_MINED_QUESTIONS = 1000
MIN_MINED_QUESTIONS = 20
# Pairs whose anchor is something people type; a sentence of the document itself is not.
QUESTION_RULES = ("question", "alias", "listed", "cross_reference", "heading")


def question_like(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that can stand in for questions; cloze pairs where there are too few others, written ones never."""
    pairs = [pair for pair in pairs if pair.rule != SYNTHETIC_RULE]
    good = [pair for pair in pairs if pair.rule in QUESTION_RULES]
    return good if len(good) >= MIN_MINED_QUESTIONS * 4 else pairs


def hold_out(
    material: Material, pairs: Sequence[Pair], seed: int = 13
) -> tuple[frozenset[str], QuestionSet, dict[int, str]]:
    """Hold out document groups as mined questions.

    Returns:
        The documents held out, of which nothing may be learned; the questions; and, for each passage
        that answers one, the text to put in its place when judging (what gives the answer away is
        masked, as in training).

    Raises:
        QuestionsError: too few pairs to hold any out.
    """
    groups = _document_groups(material)
    order = sorted(groups)
    Random(seed).shuffle(order)
    candidates: dict[str, list[Pair]] = defaultdict(list)
    for pair in question_like(pairs):
        candidates[pair.document_id].append(pair)
    # A passage answers one question, however many pairs lead to it.
    answers = {document: len({pair.passage for pair in some}) for document, some in candidates.items()}
    total, asked = sum(answers.values()), 0
    held: set[str] = set()
    chosen: list[Pair] = []
    for key in order:
        if asked >= min(HELD_OUT_SHARE * total, MAX_MINED_QUESTIONS):
            break
        fresh = sum(answers.get(document, 0) for document in groups[key])
        if fresh and asked + fresh <= 0.5 * total:
            held.update(groups[key])
            asked += fresh
            chosen += [pair for document in groups[key] for pair in candidates.get(document, ())]
    # Which rule asks for a passage that several lead to is left to chance: none of them is all that is judged by.
    turn: dict[tuple[int, str], float] = {}
    generator = Random(seed)
    chosen.sort(key=lambda pair: turn.setdefault((pair.passage, pair.rule), generator.random()))
    questions, masks = _as_questions(material, chosen)
    if len(questions) < MIN_MINED_QUESTIONS and len(groups) == 1:
        one = "one document" if len(material.documents) == 1 else f"{len(material.documents)} copies of one document"
        raise QuestionsError(
            f"the corpus is {one}, so none can be held out to judge by; give questions with --questions FOLDER, or "
            "split it into files, one a chapter or an entry"
        )
    if len(questions) < MIN_MINED_QUESTIONS:
        different = len({normalise(pair.anchor) for some in candidates.values() for pair in some})
        raise QuestionsError(
            f"only {len(questions)} questions could be mined and held out (at least {MIN_MINED_QUESTIONS} are wanted): "
            f"the documents ask {different} different ones, and about a quarter may be held out; give real ones with "
            "--questions FOLDER, or add documents with headings, synonym lists or questions"
        )
    return frozenset(held), split_questions(questions, seed, MINED_EVIDENCE, _names(groups)), masks


def alike_documents(material: Material) -> dict[str, str]:
    """The name of the group of each document that says nearly what others say."""
    return _names(_document_groups(material))


def _names(groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {document: key for key, documents in groups.items() if len(documents) > 1 for document in documents}


def _as_questions(material: Material, pairs: Sequence[Pair]) -> tuple[list[Question], dict[int, str]]:
    """One question a section, its copies included, since each masks its own answer's text; one a name.

    All that one name leads to answers it, but for what another question asks already.

    A question made of a heading is said by all that stands under it, which would be found by that: there it is masked
    too. One made of a document's title is answered by the document. A name may be listed in another section under the
    heading that names both ("Synonyms"): there it is masked too.
    """
    by_anchor: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_anchor[normalise(pair.anchor)].append(pair)
    questions: list[Question] = []
    asked_of: dict[int, Pair] = {}
    said_above: dict[int, list[str]] = defaultdict(list)
    listed: dict[int, list[str]] = defaultdict(list)
    headings = Counter((section.document_id, section.heading[-1:]) for section in material.sections)
    for alike in by_anchor.values():
        pair = next((pair for pair in alike if pair.rule in HEADING_RULES), alike[0])
        if pair.passage in asked_of:
            continue
        named = _sections_beside(material, pair.section) if pair.rule in HEADING_RULES else ()
        sections = dict.fromkeys((*material.copies_of(pair.section), *(other.section for other in alike), *named))
        copies = [place for place in _passages(material, sections) if place not in asked_of]
        units = dict.fromkeys((_unit(material.passages[place], headings) for place in copies), 1)
        asked_of |= dict.fromkeys(copies, pair)
        if pair.rule in HEADING_RULES:
            documents = list(dict.fromkeys(material.passages[place].document_id for place in copies))
            titled = [name for name in documents if says(material.document_by_id[name].title, pair.anchor)]
            if pair.document_id in titled:
                units = dict.fromkeys(titled, 1)
            for place in _passages(material, (place for name in documents for place in material.sections_of[name])):
                passage = material.passages[place]
                if any(says(heading, pair.anchor) for heading in (passage.title, *passage.heading)):
                    said_above[place].append(pair.anchor)
        said = f" {normalise(pair.anchor)} "
        for answer in dict.fromkeys(other.section for other in alike if other.rule in ("alias", "listed")):
            for place in _passages(material, _sections_beside(material, answer)):
                if place not in copies and said in f" {material.normalised[place]} ":
                    listed[place].append(pair.anchor)
        questions.append(Question(f"mined-{len(questions)}", pair.anchor, units))
        if len(questions) == MAX_MINED_QUESTIONS:
            break
    places = sorted(asked_of.keys() | said_above.keys() | listed.keys())
    return questions, {
        place: _masked(material, place, asked_of.get(place), listed[place], said_above[place]) for place in places
    }


def _unit(passage: Passage, headings: Counter[tuple[str, tuple[str, ...]]]) -> Unit:
    """The passage's section, by its whole heading path where its document has the heading twice."""
    once = headings[passage.document_id, passage.heading[-1:]] == 1
    return section_unit(passage) if once else path_unit(passage)


def _passages(material: Material, sections: Iterable[int]) -> list[int]:
    return [place for section in sections for place in material.passages_of[section]]


def _sections_beside(material: Material, section: int) -> list[int]:
    """All sections of the document that the heading which names ``section`` names."""
    places = material.sections_of[material.sections[section].document_id]
    return [other for other in places if material.named_by[other] == material.named_by[section]]


def _masked(material: Material, place: int, pair: Pair | None, listed: Sequence[str], headings: Sequence[str]) -> str:
    """The text of a passage less what ``pair`` asks of it, if one does, and less names and headings that others ask."""
    passage = material.passages[place]
    if pair is None:
        return masked_text(passage, listed, headings)
    own = (*passage.heading[-1:], pair.anchor) if pair.rule in HEADING_RULES else ()
    return masked_text(passage, (pair.anchor, pair.removed, *listed), (*own, pair.heading, *headings))


def _document_groups(material: Material) -> dict[str, list[str]]:
    """Documents whose texts say nearly the same are one group, named after its first."""
    numbers = near_duplicate_groups([document.text for document in material.documents])
    names: dict[int, str] = {}
    groups: dict[str, list[str]] = defaultdict(list)
    for number, document in zip(numbers, material.documents, strict=True):
        groups[names.setdefault(number, document.id)].append(document.id)
    return dict(groups)
