"""Rankings as trec_eval reads them: one run a file, and the judgments beside them.

A run's line is ``query Q0 unit rank score tag``, a judgment's ``query 0 unit grade`` (the format of the
Text REtrieval Conference; Voorhees and Harman, TREC, 2005). trec_eval orders by score alone and splits
at blanks, so scores fall strictly with the rank, and what would split a name is percent-encoded, alike
in runs and judgments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from trainer.questions import Question, Unit

__all__ = ["JUDGMENTS", "Rankings", "write_runs"]

JUDGMENTS = "qrels.txt"
Rankings = Sequence[Sequence[Unit]]
"""For each question, units, best first."""

_SPLITTING = re.compile(r"[\s%\x00-\x1f\x7f]")


def write_runs(folder: Path, questions: Sequence[Question], runs: Mapping[str, Rankings]) -> list[Path]:
    """Write each run to ``NAME.trec`` in ``folder`` (made where it is missing), and `JUDGMENTS`; return the files.

    Args:
        folder: where to; files of the same names are replaced.
        questions: what was asked.
        runs: by name, a ranking a question, in their order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, rankings in runs.items():
        tag = _name(name)
        lines = (
            f"{_name(question.id)} Q0 {_name(unit)} {rank} {len(ranking) - rank + 1} {tag}\n"
            for question, ranking in zip(questions, rankings, strict=True)
            for rank, unit in enumerate(ranking, 1)
        )
        written.append(folder / f"{quote(name, safe=' ')}.trec")
        written[-1].write_text("".join(lines), encoding="utf-8")
    judged = (
        f"{_name(question.id)} 0 {_name(unit)} {grade}\n"
        for question in questions
        for unit, grade in question.relevant.items()
    )
    written.append(folder / JUDGMENTS)
    written[-1].write_text("".join(judged), encoding="utf-8")
    return written


@lru_cache(maxsize=100_000)
def _name(text: str) -> str:
    return _SPLITTING.sub(lambda match: quote(match[0], safe=""), text)
