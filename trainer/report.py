"""report.html: how a version was made and judged, on one page that asks nothing of the network."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from retrieval.console import printable
from trainer.plain_words import NEXT, asked_about, conclusion, told_p
from trainer.questions import MINED_EVIDENCE
from trainer.report_plots import Interval, Line, before_after, curve, differences, intervals
from trainer.statistics import Change

__all__ = ["METRIC_NAMES", "aligned", "judged_lines", "report_page", "result_header", "result_lines", "result_table"]

METRIC_NAMES = {
    "ndcg@10": "NDCG@10",
    "mrr@10": "MRR@10",
    "map": "MAP",
    "recall@1": "R@1",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "recall@50": "R@50",
}
TEMPLATE = "report.html.jinja"
SMOOTHED_OVER = 20
SERVED_LOSSES = 10
# A heading's button sorts its table by that column, numbers as numbers.
SORTING = """
for (const button of document.querySelectorAll("table.sortable th button")) button.addEventListener("click", () => {
  const head = button.parentElement, body = head.closest("table").tBodies[0], up = head.ariaSort !== "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.ariaSort = up ? "ascending" : "descending";
  const key = row => row.cells[head.cellIndex].dataset.sort ?? row.cells[head.cellIndex].textContent.trim();
  const order = (a, b) => isNaN(a - b) ? a.localeCompare(b) : a - b;
  const rows = [...body.rows].sort((a, b) => order(key(a), key(b)));
  body.append(...(up ? rows : rows.reverse()));
});
"""


def result_header(against: str = "base dense") -> tuple[str, ...]:
    """The columns of `result_table`; ``against`` is what each row's change in NDCG@10 is a change from."""
    return ("system", "mode", "BM25 weight", *METRIC_NAMES.values(), f"against {against} [95 %]", "p")


def result_table(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The rows of an evaluation as text cells under `result_header`."""
    table = []
    for row in rows:
        change, weight, means = row["change"], row["lexical_weight"], row["means"]
        table.append(
            (
                row["system"],
                row["mode"],
                "" if weight is None else f"{weight:g}",
                # A version of before a metric was introduced has no value of it.
                *(f"{means[name]:.3f}" if name in means else "" for name in METRIC_NAMES),
                str(Change(**change)) if change else "",
                told_p(change["p"]) if change else "",
            )
        )
    return table


def result_lines(rows: Iterable[Mapping[str, Any]], against: str = "base dense") -> list[str]:
    """The same table for a terminal, columns aligned."""
    return aligned([result_header(against), *result_table(rows)], 2)


def aligned(table: Sequence[Sequence[str]], names: int) -> list[str]:
    """A table as lines for a terminal: its first ``names`` columns are flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < names else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]


def judged_lines(evaluation: Mapping[str, Any]) -> list[str]:
    """What a version was judged to be, by its record, for a terminal: scores, verdict, why, and what it looks like."""
    lines = [
        f"{asked_about(evaluation)}:",
        *result_lines(evaluation["rows"]),
        "",
        f"Verdict: {evaluation['verdict']}.",
    ]
    # What the first versions did not record is left out.
    if {"dense", "product"} <= evaluation.keys():
        lines.append(conclusion(evaluation))
    lines += [f"- {reason}" for reason in evaluation.get("reasons", ())]
    for finding in evaluation.get("diagnosis", ()):
        lines.append(f"- {finding['cause']}: {finding['sign']}; try: {finding['advice']}")
    if forgetting := evaluation.get("forgetting"):
        change = Change(**forgetting["change"])
        lines.append(f"- elsewhere ({forgetting['source']}), dense NDCG@10: {change}")
    return lines


def report_page(training: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    """A self-contained HTML page of a version's two records; whatever the corpus holds, it is shown as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    script = SORTING.strip()
    asked = [
        {
            **item,
            "dense_change": item["dense_after"] - item["dense_before"],
            "served_change": item["hybrid_after"] - item["hybrid_before"],
        }
        for item in evaluation.get("questions", [])
    ]
    asked.sort(key=lambda item: item["served_change"])
    return environment.get_template(TEMPLATE).render(
        training=training,
        evaluation=evaluation,
        dense=evaluation["dense"],
        headlines={
            name: evaluation[key]
            for name, key in (
                ("Dense search, NDCG@10", "dense"),
                ("As served: hybrid search", "product"),
                ("As served, with nothing masked", "unmasked"),
            )
            if evaluation.get(key)
        },
        mined=evaluation["evidence"] == MINED_EVIDENCE,
        conclusion=conclusion(evaluation),
        what_now=NEXT[evaluation["verdict"]].split("`"),
        fared=_fared(asked),
        asked=asked,
        asked_by_text={item["text"]: item for item in asked},
        served_losses=[item for item in asked if item["served_change"] < 0][:SERVED_LOSSES],
        table=result_table(evaluation["rows"]),
        header=result_header(),
        plots=_plots(training, evaluation),
        rules=_rules(training["pairs"]),
        wins=[item for item in evaluation["examples"] if item["ndcg_after"] > item["ndcg_before"]],
        losses=[item for item in reversed(evaluation["examples"]) if item["ndcg_after"] < item["ndcg_before"]],
        script=script,
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _fared(questions: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many questions gained, lost, or stayed the same in dense search; empty where they are not recorded."""
    changes = [item["dense_change"] for item in questions]
    counts = {"gained": sum(change > 0 for change in changes), "lost": sum(change < 0 for change in changes)}
    return {**counts, "same": len(changes) - sum(counts.values())} if changes else {}


def _plots(training: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    log = training["log"]
    curves = ("losses", "lesson_losses", "dev")
    losses, lessons, dev = ([(float(step), float(value)) for step, value in log.get(name, ())] for name in curves)
    asked = evaluation.get("questions", [])
    scores = [(item["dense_before"], item["dense_after"]) for item in asked]
    # The sample's own pool of passages, so only the base's score on it can be compared with it.
    base = training.get("base_dev")
    return {
        "intervals": intervals(_intervals(evaluation), "Change by measure, tuned against base, with 95 % intervals"),
        "smoothed": len(losses) >= 2 * SMOOTHED_OVER,
        "loss": curve(_loss_lines(losses), "Training loss by step"),
        "lessons": lessons and curve(_loss_lines(lessons), "Loss of lessons by step"),
        "dev": curve(
            [Line(sorted(dev), "smooth", dots=True)],
            "NDCG@10 on a sample of dev by step",
            level=base,
            level_label="base",
        ),
        "before_after": before_after(scores, "NDCG@10 of each test question, before and after"),
        "differences": differences(
            [after - before for before, after in scores], "Change of each test question, sorted"
        ),
    }


def _loss_lines(losses: list[tuple[float, float]]) -> list[Line]:
    span = len(losses) // SMOOTHED_OVER
    if span < 2:
        return [Line(losses, "smooth")]
    smooth = [
        (step, fmean(value for _, value in losses[max(0, place - span + 1) : place + 1]))
        for place, (step, _) in enumerate(losses)
    ]
    return [Line(losses, "raw"), Line(smooth, "smooth")]


def _intervals(evaluation: Mapping[str, Any]) -> list[Interval]:
    titles = {"dense": "Dense search, test", "hybrid": "As served (hybrid), test"}
    rows = [
        Interval(titles[mode], METRIC_NAMES[metric], Change(**change))
        for mode, changes in evaluation.get("changes", {}).items()
        for metric, change in changes.items()
    ]
    if unmasked := evaluation.get("unmasked"):
        rows.append(Interval("As served (hybrid), nothing masked in the passages", "NDCG@10", Change(**unmasked)))
    more = {f"{name} ({change['questions']})": change for name, change in evaluation.get("likeness", {}).items()}
    rows += [Interval("Dense NDCG@10, test questions …", label, Change(**change)) for label, change in more.items()]
    rows.append(
        Interval("Dense NDCG@10, other questions", f"dev ({evaluation['dev_questions']})", Change(**evaluation["dev"]))
    )
    if forgetting := evaluation.get("forgetting"):
        change = Change(**forgetting["change"])
        rows.append(Interval("Dense NDCG@10, other questions", f"general set ({change.questions})", change))
    return rows


def _rules(pairs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Pairs by rule as a table: every count that the miner gives, the last of them also as a share of the largest."""
    rows = [dict(item) for item in pairs]
    counts = [name for name in (rows[0] if rows else ()) if name != "rule"]
    most = max((row["kept"] for row in rows), default=0) or 1
    names = {"silver": "past the filter", "kept": "trained on"}
    return {
        "header": [names.get(name, name.replace("_", " ")) for name in counts],
        "rows": [(row["rule"], [row[name] for name in counts], row["kept"] / most) for row in rows],
    }
