"""Why a run ended as it did: the usual causes, each with the figure that says so and what to try.

Pure functions of what was measured; nothing here decides anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from retrieval.embedders import LocalEmbedder
from trainer.outcome import Outcome
from trainer.pairs import Pair
from trainer.plain_words import of_answers
from trainer.silver import silver_scores
from trainer.statistics import Change, verdict

__all__ = ["Finding", "PairSigns", "diagnose", "measure_pairs"]

SAMPLE = 200
LOW_SILVER = 0.05
# Shuffled pairs agree by half; the pairs of a sound corpus, under any usable base, by more than nine tenths.
NOISY_AGREEMENT = 0.8
CEILING = 0.9
NOTHING_NEW = 0.995
DEV_FELL = 0.01
LOSS_FELL = 0.9
LOSS_ROSE = 1.2
# Sound runs move a passage by .1 to .2 (1 - cosine), training at a hundred times their rate by .9.
MOVED_FAR = 0.6
FIT_ADVICE = "fewer epochs or pairs, a smaller learning rate, or an average with the base's weights"
LESS_ADVICE = "keep less of the tuned weights (averages = [0.3] in a recipe of your own)"
STEPS_ADVICE = "lower the learning rate by ten, or average the weights with the base's"
IMPLAUSIBLE = 0.6
FEWEST_ANSWERS = 6
"""Of five, all of them gaining, one sign flip in sixteen is as far from nothing: no p is below .05."""
FEW_ALIKE = 10
"""Questions, of either kind, too few to tell those worded like a training anchor from the others by."""


@dataclass(frozen=True, slots=True)
class PairSigns:
    """How sound the training pairs look to the base model and to BM25, before anything is learned.

    ``agreement``: how often the base finds an anchor nearer to its own positive than to another pair's; a
    half is chance. ``low_silver``: the share of pairs that hardly share a word by rank-bm25's score.
    """

    pairs: int
    agreement: float
    low_silver: float


@dataclass(frozen=True, slots=True)
class Finding:
    """A usual cause, the measured sign of it, and what to try."""

    cause: str
    sign: str
    advice: str


def measure_pairs(pairs: Sequence[Pair], base: LocalEmbedder, language: str) -> PairSigns:
    """Look at up to 200 of the pairs, evenly spread, with the untuned base.

    Raises:
        ValueError: fewer than two pairs.
    """
    if len(pairs) < 2:
        raise ValueError("at least two pairs are needed to compare them")
    places = np.linspace(0, len(pairs) - 1, min(SAMPLE, len(pairs))).round().astype(int).tolist()
    some = [pairs[place] for place in places]
    anchors = base.encode_queries([pair.anchor for pair in some])
    similarity = anchors @ base.encode_documents([pair.positive for pair in some]).T
    own = similarity.diagonal()[:, None]
    others = len(some) * (len(some) - 1)
    agreement = float((own > similarity).sum() / others)
    silver = silver_scores(some, language)
    return PairSigns(len(pairs), agreement, sum(score < LOW_SILVER for score in silver) / len(silver))


def diagnose(
    outcome: Outcome,
    losses: Sequence[tuple[int, float]] = (),
    dev: Sequence[tuple[int, float]] = (),
    signs: PairSigns | None = None,
    moved: float = 0.0,
    earlier: Mapping[str, int] = {},
) -> list[Finding]:
    """The causes whose signs are there, the gravest first.

    Args:
        outcome: of the test.
        losses: (step, training loss).
        dev: (step, NDCG@10 on a sample of the dev questions).
        signs: of the pairs trained on.
        moved: 1 - the mean cosine of a passage's vector after tuning to the one before.
        earlier: versions that test questions have judged before, and how many.
    """
    findings = [*_leakage(outcome), *_likeness(outcome)]
    if outcome.verdict != "WIN":
        findings += [
            *_steps(losses, moved),
            *_noise(signs),
            *_over_fitting(outcome, losses, dev),
            *_over_fitting_to_dev(outcome),
            *_ceiling(outcome, signs),
            *_served(outcome),
            *_own_words(outcome),
            *(_too_few(outcome.dense) if outcome.verdict == "TIE" else ()),
        ]
    return [*findings, *_seen_before(earlier, outcome.test_questions)]


def _leakage(outcome: Outcome) -> Iterator[Finding]:
    headroom = 1 - outcome.dense.before
    if outcome.dense.mean >= IMPLAUSIBLE * headroom > 0 and outcome.dense.mean >= 0.1:
        yield Finding(
            "leakage?",
            f"tuning closed {outcome.dense.mean / headroom:.0%} of the distance from the base's NDCG@10 "
            f"({outcome.dense.before:.3f}) to 1; from documents alone a quarter is a lot",
            "check that no question or answer stands in the documents as a heading or synonym by design, and judge "
            "by questions from another source",
        )


def _seen_before(earlier: Mapping[str, int], asked: int) -> Iterator[Finding]:
    if earlier:
        most = max(earlier.values())
        which = "the same" if most == asked else f"up to {most} of the {asked}"
        yield Finding(
            "a test that was seen before",
            f"{which} test questions have judged {len(earlier)} earlier version{'s' if len(earlier) > 1 else ''} "
            f"({', '.join([*earlier][-5:])})",
            "each try is a chance to suit these questions by luck: before a claim is made, ask fresh ones once",
        )


def _likeness(outcome: Outcome) -> Iterator[Finding]:
    like, unlike = _by_likeness(outcome)
    if like and unlike and verdict(like) == "WIN" and verdict(unlike) != "WIN" and unlike.high < like.mean:
        yield Finding(
            "learned by heart?",
            f"the {like.questions} questions worded like a training anchor gained {like}, "
            f"the {unlike.questions} others {unlike}",
            "the gain may not carry to questions of another kind; mine pairs of more rules, or have questions written",
        )


def _by_likeness(outcome: Outcome) -> tuple[Change | None, Change | None]:
    """The change of questions worded like a training anchor, and of the others; none where either are too few."""
    like, unlike = (outcome.likeness.get(name) for name in ("like a training anchor", "unlike any"))
    enough = like and unlike and min(like.questions, unlike.questions) >= FEW_ALIKE
    return (like, unlike) if enough else (None, None)


def _steps(losses: Sequence[tuple[int, float]], moved: float) -> Iterator[Finding]:
    if moved >= MOVED_FAR:
        yield Finding(
            "steps too large",
            f"tuning turned passages to a mean cosine of {1 - moved:.2f} with what they were",
            STEPS_ADVICE,
        )
        return
    if len(losses) < 20:
        return
    # Warm-up has hardly moved anything in the first steps.
    first, tenth = fmean(value for _, value in losses[:3]), len(losses) // 10
    tenths = [fmean(value for _, value in losses[start : start + tenth]) for start in range(0, len(losses), tenth)]
    if max(tenths) >= LOSS_ROSE * first:
        yield Finding(
            "steps too large",
            f"the training loss began at {first:.2f}, rose to {max(tenths):.2f} and ended at {tenths[-1]:.2f}",
            STEPS_ADVICE,
        )


def _noise(signs: PairSigns | None) -> Iterator[Finding]:
    if signs and signs.agreement < NOISY_AGREEMENT:
        yield Finding(
            "noisy pairs",
            f"the base finds an anchor nearer to its own positive than to another pair's {signs.agreement:.1%} of the "
            f"time (chance is 50 %), and {signs.low_silver:.0%} of the pairs hardly share a word",
            "read `shoptalk mine`'s examples and leave out the rule whose pairs make no sense",
        )


def _over_fitting(
    outcome: Outcome, losses: Sequence[tuple[int, float]], dev: Sequence[tuple[int, float]]
) -> Iterator[Finding]:
    if len(dev) > 1 and len(losses) >= 10:
        best, last = max(score for _, score in dev), dev[-1][1]
        start, end = _ends(losses)
        if best - last >= DEV_FELL and end <= LOSS_FELL * start:
            yield Finding(
                "over-fitting",
                f"the training loss fell from {start:.2f} to {end:.2f} while NDCG@10 on dev fell from {best:.3f} to "
                f"{last:.3f}",
                FIT_ADVICE,
            )
            return
    like, unlike = _by_likeness(outcome)
    # Where those like an anchor fell too, all fell, and that is another cause's sign.
    if like and unlike and verdict(unlike) == "REGRESSION" and like.mean >= 0:
        yield Finding(
            "over-fitting",
            f"the {unlike.questions} questions unlike any training anchor changed by {unlike}, the {like.questions} "
            f"others by {like}",
            FIT_ADVICE,
        )


def _over_fitting_to_dev(outcome: Outcome) -> Iterator[Finding]:
    gap = outcome.dev.mean - outcome.dense.mean
    # Half an interval is 1.96 standard errors of either mean; those of a difference add in squares.
    doubt = math.hypot((outcome.dev.high - outcome.dev.low) / 2, (outcome.dense.high - outcome.dense.low) / 2)
    if outcome.dev.mean > 0 and gap > doubt > 0:
        yield Finding(
            "over-fitting to the dev questions",
            f"the dev questions, which made the choices, changed by {outcome.dev}, the test questions by "
            f"{outcome.dense}",
            f"ask more dev questions ({outcome.dev_questions} now), or choose among fewer set-ups; {FIT_ADVICE}",
        )


def _ceiling(outcome: Outcome, signs: PairSigns | None) -> Iterator[Finding]:
    if outcome.dense.before >= CEILING:
        yield Finding(
            "nothing left to learn",
            f"the base alone has NDCG@10 {outcome.dense.before:.3f} on these questions",
            "keep the base; if users still miss things, ask questions like theirs",
        )
    elif signs and signs.agreement >= NOTHING_NEW:
        yield Finding(
            "nothing left to learn from these pairs",
            f"the base already finds an anchor nearer to its own positive {signs.agreement:.1%} of the time",
            "hard negatives, or pairs that are harder: names and questions users type rather than headings",
        )


def _served(outcome: Outcome) -> Iterator[Finding]:
    if verdict(outcome.dense) == "WIN" and verdict(outcome.product) == "REGRESSION":
        yield Finding(
            "the served ranking lost",
            f"dense search changed by {outcome.dense}, but what is served, tuned hybrid search against the base's, by "
            f"{outcome.product}",
            f"more dev questions, which choose BM25's weight ({outcome.dev_questions} now); or {LESS_ADVICE}",
        )


def _own_words(outcome: Outcome) -> Iterator[Finding]:
    if outcome.unmasked and verdict(outcome.unmasked) == "REGRESSION":
        yield Finding(
            "the documents' own words lost",
            f"with nothing masked in the passages, what is served changed by {outcome.unmasked}: sections are found "
            "less well by what the documents themselves call them",
            f"real questions (--questions) tell whether people ask in such words; or {LESS_ADVICE}",
        )


def _too_few(change: Change) -> Iterator[Finding]:
    if 0 < change.answers < FEWEST_ANSWERS:
        yield Finding(
            "too few questions",
            f"{change.questions} questions{of_answers(change)}: what fewer than {FEWEST_ANSWERS} show may be chance",
            "questions about other things; more wordings of these are no evidence of their own",
        )
    elif 0 < change.mean < change.detectable:
        # More wordings of what is asked already are no evidence of their own.
        alike = of_answers(change)
        wanted = math.ceil((change.answers if alike else change.questions) * (change.detectable / change.mean) ** 2)
        asked = f"questions of about {wanted:,} different answers" if alike else f"about {wanted:,} questions"
        more = f"{asked} would show it" if wanted <= 20_000 else "no practicable number would show it"
        yield Finding(
            "too few questions",
            f"{change.questions} questions{alike} show a change of {change.detectable:.3f} four times of five; "
            f"{change.mean:+.3f} was seen",
            f"if a change of that size is real, {more}",
        )


def _ends(losses: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """The mean loss of the first and of the last tenth of the steps."""
    tenth = max(3, len(losses) // 10)
    return fmean(value for _, value in losses[:tenth]), fmean(value for _, value in losses[-tenth:])
