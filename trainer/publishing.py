"""A tuned model made into a version: its folder, its records, its card."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.models import (
    EVALUATION_RECORD,
    TRAINING_RECORD,
    ModelVersion,
    add_version,
    remove_staging,
    staging_folder,
)
from retrieval.workspace import Workspace
from trainer.report import model_card, report_page

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["register"]


def register(
    workspace: Workspace, model: SentenceTransformer, training: dict[str, Any], evaluation: dict[str, Any]
) -> ModelVersion:
    """Save ``model`` with its records, report and card as the next version; nothing is left behind on failure."""
    training = {"created": datetime.now(UTC).isoformat(timespec="seconds"), **training}
    staged = staging_folder(workspace)
    try:
        model.save_pretrained(str(staged), create_model_card=False, safe_serialization=True)
        _write_json(staged / TRAINING_RECORD, training)
        _write_json(staged / EVALUATION_RECORD, evaluation)
        (staged / "README.md").write_text(model_card(training, evaluation), encoding="utf-8")
        (staged / "report.html").write_text(report_page(training, evaluation), encoding="utf-8")
        return add_version(workspace, staged)
    except BaseException:
        remove_staging(staged)
        raise


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
