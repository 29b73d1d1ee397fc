"""A tuned model made into a version: its folder, its records, its card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.errors import ModelError
from retrieval.full_disk import full_disk_told
from retrieval.models import (
    EVALUATION_RECORD,
    TRAINING_RECORD,
    ModelVersion,
    add_version,
    remove_staging,
    staging_folder,
)
from retrieval.workspace import Workspace
from trainer.model_card import model_card
from trainer.questions import Question
from trainer.report import report_page
from trainer.runs import Rankings, write_runs
from trainer.training_log import keep_logs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["CARD", "REPORT", "RUNS", "register", "require_room"]

CARD = "README.md"
REPORT = "report.html"
RUNS = "runs"
"""The folder of a version with its rankings of the test questions, where they were kept."""


def require_room(workspace: Workspace, model: SentenceTransformer) -> None:
    """See that the disk has room for a version of ``model``, before anything is spent on it.

    Raises:
        ModelError: it has not; the message says how much is free and how much it takes.
    """
    taken = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    free = shutil.disk_usage(workspace.root).free
    if free < taken:
        raise ModelError(
            f"{workspace.root} has {free >> 20} MB free, and a version of this model takes {-(-taken >> 20)}; make room"
        )


def register(
    workspace: Workspace,
    model: SentenceTransformer,
    training: dict[str, Any],
    evaluation: dict[str, Any],
    questions: Sequence[Question] = (),
    runs: Mapping[str, Rankings] | None = None,
    logs: Path | None = None,
) -> ModelVersion:
    """Save ``model`` with its records, report and card as the next version; nothing is left behind on failure.

    ``runs`` are rankings of the test ``questions``, by system and mode; in the folder ``logs`` are those of its
    training, which are kept too. The training record names the files that are the model (``model_files``), so that
    whoever publishes it need not publish what it was judged on.

    Raises:
        ModelError: the disk is full.
    """
    training = {"created": datetime.now(UTC).isoformat(timespec="seconds"), **training}
    staged = staging_folder(workspace)
    try:
        with full_disk_told(workspace.models_dir, "the versions there are stay", ModelError):
            model.save_pretrained(str(staged), create_model_card=False, safe_serialization=True)
            saved = sorted(path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file())
            training = {**training, "model_files": saved}
            _write_json(staged / TRAINING_RECORD, training)
            _write_json(staged / EVALUATION_RECORD, evaluation)
            (staged / CARD).write_text(model_card(training, evaluation), encoding="utf-8")
            if logs:
                keep_logs(logs, staged)
            if runs:
                write_runs(staged / RUNS, questions, runs)
            (staged / REPORT).write_text(report_page(training, evaluation), encoding="utf-8")
            return add_version(workspace, staged)
    except BaseException:
        remove_staging(staged)
        raise


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
