"""report.html and the model card: the same figures, for a browser and for the Hub."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = ["model_card", "report_page", "result_lines", "result_table"]

HEADER = ("system", "mode", "BM25 weight", "NDCG@10", "MRR@10", "Recall@10", "change in NDCG@10 [95 %]", "p")

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .3rem .8rem; text-align: right; }
th { border-bottom: 2px solid; } td { border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent); }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
.WIN { color: #197a3e; } .REGRESSION { color: #b3261e; } svg { max-width: 100%; height: auto; }
polyline { fill: none; stroke: currentColor; stroke-width: 1.5; } text { fill: currentColor; font-size: 11px; }
@media (prefers-color-scheme: dark) { .WIN { color: #6fd08c; } .REGRESSION { color: #ff8a80; } }
"""


def result_table(rows: Iterable[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The rows of an evaluation as text cells under `HEADER`."""
    table = []
    for row in rows:
        change, weight, means = row["change"], row["lexical_weight"], row["means"]
        table.append(
            (
                row["system"],
                row["mode"],
                "" if weight is None else f"{weight:g}",
                *(f"{means[name]:.3f}" for name in ("ndcg@10", "mrr@10", "recall@10")),
                f"{change['mean']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]" if change else "",
                f"{change['p']:.4f}" if change else "",
            )
        )
    return table


def result_lines(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The same table for a terminal, columns aligned."""
    table = [HEADER, *result_table(rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADER))]
    return [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]


def model_card(training: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """The model card (README.md with a YAML head) of a version."""
    rows = [HEADER, ("---",) * len(HEADER), *result_table(evaluation["rows"])]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    recipe = training["recipe"]
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
base_model: {_yaml(training["base"])}
tags: [sentence-transformers, sentence-similarity, shoptalk]
---
# {training["base"]}, tuned by Shoptalk

Verdict: **{evaluation["verdict"]}** on {evaluation["test_questions"]} test questions ({evaluation["evidence"]}).
Everything was chosen on {evaluation["dev_questions"]} dev questions; the test questions were scored once. Changes
are against the base model's dense search, paired by question, with a 95 % bootstrap interval.

{table}

Recipe `{recipe["name"]}` ({recipe["description"]}), seed {training["seed"]},
{training["log"]["pairs"]} pairs, learning rate
{training["log"]["learning_rate"]:g}, {recipe["epochs"]} epoch(s) of batches of {recipe["batch_size"]}.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("this folder")
```
"""


def report_page(training: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """A self-contained HTML page; it asks nothing of the network."""
    verdict = evaluation["verdict"]
    mined = _table(
        ("rule", "mined", "distinct", "past the filter", "trained on"),
        [
            (item["rule"], *(str(item[key]) for key in ("mined", "distinct", "silver", "kept")))
            for item in training["pairs"]
        ],
    )
    choices = "".join(f"<li>{escape(choice)}</li>" for choice in training["choices"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Shoptalk: {escape(verdict)}</title><style>{_STYLE}</style></head><body>
<h1><span class="{escape(verdict)}">{escape(verdict)}</span>: {escape(training["base"])},
recipe {escape(training["recipe"]["name"])}</h1>
<p>{evaluation["test_questions"]} test questions ({escape(evaluation["evidence"])}), scored once;
{evaluation["dev_questions"]} dev questions made every choice. Changes are against the base model's dense search,
paired by question, with a 95&nbsp;% bootstrap interval and a randomization p.</p>
{_table(HEADER, result_table(evaluation["rows"]))}
<h2>Questions that gained, and lost, most</h2>{_examples(evaluation["examples"])}
<h2>Pairs by rule</h2>{mined}
<h2>Loss by step</h2>{_curve(training["log"]["losses"])}
<h2>What was chosen, and why</h2><ul>{choices}</ul>
</body></html>
"""


def _examples(examples: Iterable[dict[str, Any]]) -> str:
    rows = []
    for item in examples:
        scores = f"{item['ndcg_before']:.2f} → {item['ndcg_after']:.2f}"
        best = [next(iter(item[side]), "nothing") for side in ("before", "after")]
        rows.append((item["question"], "; ".join(item["relevant"]), scores, *best))
    return _table(("question", "answered by", "NDCG@10", "base finds first", "tuned finds first"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _curve(points: Sequence[Sequence[float]]) -> str:
    if len(points) < 2:
        return "<p>Too few steps to draw.</p>"
    width, height, margin = 640, 200, 34
    top, last = max(value for _, value in points) or 1.0, points[-1][0]
    placed = " ".join(
        f"{margin + step / last * (width - 2 * margin):.1f},{height - margin - value / top * (height - 2 * margin):.1f}"
        for step, value in points
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="loss by step"><polyline points="{placed}"/>'
        f'<text x="2" y="{margin}">{top:.2f}</text><text x="2" y="{height - margin}">0</text>'
        f'<text x="{width - margin}" y="{height - 12}" text-anchor="end">step {last}</text></svg>'
    )


def _yaml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
