"""The model card: what the version is, how it was made and judged, for the Hub and for whoever finds the folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from retrieval.documents import Document
from retrieval.front_matter import front_matter
from trainer.plain_words import asked_about
from trainer.report import result_header, result_table

__all__ = ["base_licence", "data_hash", "model_card"]


def data_hash(documents: Iterable[Document]) -> str:
    """sha256 (hex) over the ids and content hashes of the documents, whatever their order."""
    digest = hashlib.sha256()
    for identifier, content in sorted((document.id, document.content_hash) for document in documents):
        digest.update(f"{identifier}\n{content}\n".encode())
    return digest.hexdigest()


def base_licence(folder: Path | None) -> str:
    """The licence that the card of the model in ``folder`` names, "" where there is no card or it names none."""
    card = folder / "README.md" if folder else None
    if card is None or not card.is_file():
        return ""
    metadata, _ = front_matter(card.read_text(encoding="utf-8", errors="replace"))
    return metadata.get("license_name") or metadata.get("license", "")


def model_card(training: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """The model card (README.md with a YAML head) of a version."""
    recipe, licence = training["recipe"], training.get("base_licence", "")
    head = [
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        f"base_model: {_yaml(training['base'])}",
        *([f"license: {_yaml(licence)}"] if licence else []),
        "tags: [sentence-transformers, sentence-similarity, shoptalk]",
    ]
    header = result_header()
    rows = [header, ("---",) * len(header), *result_table(evaluation["rows"])]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    reasons = "\n".join(f"- {reason}" for reason in evaluation.get("reasons", ()))
    return f"""---
{chr(10).join(head)}
---
# {_line(training["base"])}, tuned by Shoptalk

Verdict: **{evaluation["verdict"]}** on {asked_about(evaluation)}.
Everything was chosen on {evaluation["dev_questions"]} dev questions; the test questions were scored once. Every change
is paired by question, with a 95 % bootstrap interval and a randomization p.

{reasons}

{table}

Changes in the table are in NDCG@10 and against the base model's dense search, those above it against base in the same
mode. R@k is Recall@k.

## How it was made

Recipe `{recipe["name"]}` ({recipe["description"]}), seed {training["seed"]},
{training["log"]["pairs"]} pairs, learning rate
{training["log"]["learning_rate"]:g}, {recipe["epochs"]} epoch(s) of batches of {recipe["batch_size"]}.

{_facts(training)}

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("this folder")
questions = model.encode_query(["a question"])
passages = model.encode_document(["a passage"])
```
"""


def _facts(training: dict[str, Any]) -> str:
    facts = []
    if split := training.get("split"):
        facts.append(f"- Split: {_line(split)}")
    if data := training.get("data"):
        facts.append(
            f"- Data: {data['documents']:,} documents, {data['passages']:,} passages; sha256 over their hashes "
            f"`{data['sha256']}`"
        )
    licence = training.get("base_licence", "")
    facts.append(f"- Licence of the base: {_line(licence) if licence else 'its card names none'}")
    for side, prompt in training.get("prompts", {}).items():
        facts.append(f"- Prompt of a {side}: {f'`{_line(prompt)}`' if prompt else 'none'}")
    return "\n".join(facts)


def _line(text: str) -> str:
    return " ".join(str(text).split()).replace("`", "'")


def _yaml(text: str) -> str:
    return '"' + _line(text).replace("\\", "\\\\").replace('"', '\\"') + '"'
