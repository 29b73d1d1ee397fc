"""Ask a set of questions and measure the answers."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from agent.answer import Answer, Event, QueryDone, TurnDone, Usage
from agent.blocks import SentResult
from agent.conversation import Agent
from agent.interrupts import Stopped, stoppable
from agent.measures import MEASURES, Mean, mean_of, measure
from agent.questions import Question
from agent.transcript import Transcript
from agent.wording import no_evidence
from retrieval.errors import ShoptalkError

if TYPE_CHECKING:
    from agent.judging import Judge, Opinion
    from retrieval.console import Progress
    from retrieval.workspace import AgentSettings, Workspace

__all__ = ["BY_CTRL_C", "Evaluation", "Judged", "evaluate"]

_MOST_FAILURES = 3

BY_CTRL_C = "stopped by Ctrl-C or SIGTERM"
"""Why an evaluation ended that a person, or the system, stopped."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One question: its answer and measures; ``error`` tells why it, or the judge's opinion of it, is missing."""

    question: Question
    answer: Answer | None
    measures: dict[str, float]
    opinion: Opinion | None = None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The question as JSON values."""
        return {
            "id": self.question.id,
            "question": self.question.text,
            "relevant": sorted(self.question.relevant),
            "measures": self.measures,
            "answer": None if self.answer is None else self.answer.to_dict(),
            "opinion": None if self.opinion is None else self.opinion.model_dump(),
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All questions asked, what their measures come to, and what they were asked of.

    ``stopped`` tells why the rest were not asked, "" where none are left.
    """

    model: str
    prompt_version: str
    judged: tuple[Judged, ...]
    judge: str = ""
    judge_usage: Usage = Usage()
    stopped: str = ""

    @property
    def means(self) -> dict[str, Mean]:
        """The mean of each measure over the answered questions that have it."""
        return mean_of(one.measures for one in self.judged if one.answer is not None)

    @property
    def opinions(self) -> dict[str, float]:
        """The share of judged answers that the judge says each thing of."""
        given = [one.opinion.model_dump(exclude={"reason"}) for one in self.judged if one.opinion is not None]
        return {name: sum(opinion[name] for opinion in given) / len(given) for name in (given[0] if given else ())}

    @property
    def shortfalls(self) -> list[str]:
        """What made the answers less than the workspace can give, commonest first."""
        answers = [one.answer for one in self.judged if one.answer is not None]
        queries = [query for answer in answers for query in answer.queries]
        failed = Counter(query.error for query in queries if query.error)
        degraded = Counter(query.degraded for query in queries if query.degraded)
        refused = sum(answer.stop_reason == "refusal" for answer in answers)
        wordless = sum(not answer.text.strip() for answer in answers) - refused
        limits = Counter(answer.limit for answer in answers if answer.limit)
        return [
            *(f"{count} of {len(queries)} queries failed: {why}" for why, count in failed.most_common()),
            *(f"{count} of {len(queries)} queries were degraded: {why}" for why, count in degraded.most_common()),
            *(f"{count} of {len(answers)} answers reached a limit: {name}" for name, count in limits.most_common()),
            *([f"{refused} of {len(answers)} answers were refusals"] if refused else []),
            *([f"{wordless} of {len(answers)} answers came to no word"] if wordless else []),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON values."""
        return {
            "model": self.model,
            "prompt_version": self.prompt_version,
            "questions": len(self.judged),
            "failed": sum(one.answer is None for one in self.judged),
            "stopped": self.stopped,
            "shortfalls": self.shortfalls,
            "measures": {name: asdict(mean) for name, mean in self.means.items()},
            "judge": {"model": self.judge, "shares": self.opinions, "usage": asdict(self.judge_usage)}
            if self.judge
            else None,
            "answers": [one.to_dict() for one in self.judged],
        }

    def __str__(self) -> str:
        failed = sum(one.answer is None for one in self.judged)
        lines = [
            f"{len(self.judged)} questions, {failed} without an answer; {self.model}, prompt {self.prompt_version}"
        ]
        width = 1 + max(map(len, MEASURES.values()))
        lines.append(f"{'':{width}}{'mean':>9}  {'95 % interval':^19}{'questions':>10}")
        for name, mean in self.means.items():
            interval = f"{_short(mean.low)} to {_short(mean.high)}"
            lines.append(f"{MEASURES[name]:{width}}{_short(mean.mean):>9}  {interval:^19}{mean.questions:>10}")
        lines += [f"{self.judge} says {name}: {share:.2f}" for name, share in self.opinions.items()]
        if self.judge:
            taken = self.judge_usage
            lines.append(
                f"{self.judge} took {taken.all_input_tokens:,} input and {taken.output_tokens:,} output tokens, "
                "which are not among those above"
            )
        lines += self.shortfalls
        lines += [f"{one.question.id}: {one.error}" for one in self.judged if one.error]
        return "\n".join(lines)


async def evaluate(
    workspace: Workspace,
    settings: AgentSettings,
    questions: Sequence[Question],
    progress: Progress,
    judge: Judge | None = None,
    **parts: Any,
) -> Evaluation:
    """Ask each question in a conversation of its own; ``parts`` go to :class:`Agent`.

    Three failures in a row (or nothing else) end it early, and so do Ctrl-C and SIGTERM.

    Raises:
        KeyboardInterrupt: Ctrl-C, before anything was measured.
        ShoptalkError: no question was answered: the last one's reason.
    """
    stopped = ""
    watch = _Watch()
    judged: list[Judged] = []
    async with Agent(workspace, settings=settings, on_event=watch, **parts) as agent:
        for question in questions:
            progress("Questions", len(judged), len(questions))
            try:
                work = _judge_one(agent, question, watch, judge)
                judged.append(await stoppable(work, signal.SIGINT, signal.SIGTERM))
            except Stopped:
                stopped = BY_CTRL_C
                break
            last = judged[-_MOST_FAILURES:]
            if all(one.error for one in last) and len(last) in (_MOST_FAILURES, len(questions)):
                stopped = last[-1].error
                break
        progress("Questions", len(judged), len(questions))
        if stopped and all(one.answer is None for one in judged):
            raise KeyboardInterrupt if stopped == BY_CTRL_C else ShoptalkError(stopped)
        about = (judge.model, judge.usage) if judge else ("", Usage())
        return Evaluation(settings.model, agent.prompt_version, tuple(judged), *about, stopped)


async def _judge_one(agent: Agent, question: Question, watch: _Watch, judge: Judge | None) -> Judged:
    agent.transcript = transcript = _WholeTranscript()
    watch.found_by_turn = []
    try:
        answer = await agent.ask(question.text)
    except ShoptalkError as error:
        return Judged(question, None, {}, error=str(error))
    measures = measure(question, answer, transcript.ever_sent, watch.found_by_turn)
    if problem := no_evidence(answer):
        return Judged(question, answer, measures, error=problem)
    try:
        opinion = await judge.opinion(question, answer) if judge else None
    except ShoptalkError as error:
        return Judged(question, answer, measures, error=str(error))
    return Judged(question, answer, measures, opinion)


class _WholeTranscript(Transcript):
    """Knows what Claude was sent though the conversation holds it no longer: a question that it refused is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.ever_sent: list[SentResult] = []

    def send(self, results: tuple[SentResult, ...]) -> None:
        """Note what Claude is sent."""
        self.ever_sent += results
        super().send(results)


class _Watch:
    """Notes which sources the searches of each turn brought."""

    def __init__(self) -> None:
        self.found_by_turn: list[list[str]] = []

    def __call__(self, event: Event) -> None:
        match event:
            case TurnDone():
                self.found_by_turn.append([])
            case QueryDone(query):
                self.found_by_turn[-1] += query.sources


def _short(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    # A cent is much where a question costs less.
    return f"{value:.2f}" if not 0 < value < 0.095 else f"{value:.2g}"
