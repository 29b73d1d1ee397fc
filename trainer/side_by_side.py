"""Two model versions by their own records: what each was judged to be side by side, and whether a new one is worse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrieval.errors import ModelError
from retrieval.models import ModelVersion, history, list_versions
from retrieval.workspace import Workspace
from trainer.looks import judged_by
from trainer.plain_words import SHOWN, of_answers
from trainer.report import METRIC_NAMES, aligned
from trainer.statistics import Change, compare, verdict

__all__ = ["InUse", "Pairing", "SideBySide", "in_use", "side_by_side", "side_by_side_lines"]

MODES = ("dense", "hybrid")


@dataclass(frozen=True)
class Pairing:
    """One metric of one system in one mode, as each version's record has it."""

    system: str
    mode: str
    metric: str
    first: float
    second: float


@dataclass(frozen=True)
class SideBySide:
    """What both records have; ``warnings`` say why the figures may not be comparable.

    ``changes`` is the paired change in NDCG@10 from the first version to the second, by mode, on the
    ``shared`` test questions that judged both; empty where there are none.
    """

    first: str
    second: str
    pairings: list[Pairing]
    shared: int
    changes: dict[str, Change]
    warnings: list[str]


@dataclass(frozen=True)
class InUse:
    """The version that was in use, and the change from what it serves to what the new one does.

    ``change`` is over the test questions that judged both, over the same documents; None where there are none.
    """

    name: str
    change: Change | None

    @property
    def better(self) -> bool:
        """Whether it serves the same questions better than the new one, beyond doubt, and so stays."""
        return self.change is not None and verdict(self.change) == "REGRESSION"

    def beside(self, new: str) -> str:
        """How the ``new`` version compares with it, in a line."""
        if self.change is None:
            return f"{self.name} was in use; it was judged by other questions or over other documents than {new}"
        change = self.change
        return (
            f"{self.name} was in use; the same {change.questions} questions{of_answers(change)} are served at NDCG@10 "
            f"{change.before:.3f} by it, {change.after:.3f} by {new}: {change}, {SHOWN[verdict(change)]}"
        )


def side_by_side(first: ModelVersion, second: ModelVersion) -> SideBySide:
    """Put the evaluation records of two versions side by side; nothing is encoded or scored anew.

    Raises:
        ModelError: one of them was never judged.
    """
    for version in (first, second):
        if not version.evaluation.get("rows"):
            raise ModelError(f"{version.name} was never judged; use `shoptalk evaluate --model {version.name}`")
    theirs = {(row["system"], row["mode"]): row["means"] for row in second.evaluation["rows"]}
    pairings = [
        Pairing(row["system"], row["mode"], metric, value, theirs[row["system"], row["mode"]][metric])
        for row in first.evaluation["rows"]
        for metric, value in row["means"].items()
        if metric in theirs.get((row["system"], row["mode"]), {})
    ]
    one, other = judged_by(first), judged_by(second)
    shared = [mark for mark in one if mark in other]
    changes = {mode: _change(one, other, shared, mode) for mode in MODES if shared}
    return SideBySide(first.name, second.name, pairings, len(shared), changes, list(_differences(first, second)))


def side_by_side_lines(value: SideBySide) -> list[str]:
    """The comparison as lines for a terminal: the paired changes first, then a row a system with a column a metric."""
    lines = []
    if value.changes:
        shared = f"{value.shared} test questions{of_answers(value.changes[MODES[0]])}"
        lines.append(f"On the {shared} that judged both, {value.second} against {value.first}:")
        lines += [
            f"{mode} NDCG@10 {change.before:.3f} → {change.after:.3f}, {change}, {SHOWN[verdict(change)]}"
            for mode, change in value.changes.items()
        ]
        lines.append("")
    metrics = list(dict.fromkeys(item.metric for item in value.pairings))
    table = [("version", "system", "mode", *(METRIC_NAMES.get(metric, metric) for metric in metrics))]
    for system, mode in dict.fromkeys((item.system, item.mode) for item in value.pairings):
        both = {item.metric: item for item in value.pairings if (item.system, item.mode) == (system, mode)}
        first, second = (
            tuple(f"{getattr(both[metric], side):.3f}" if metric in both else "" for metric in metrics)
            for side in ("first", "second")
        )
        if first == second:
            table.append(("both", system, mode, *first))
        else:
            table += [(value.first, system, mode, *first), (value.second, system, mode, *second)]
    return [*lines, *aligned(table, 3)]


def in_use(workspace: Workspace, new: ModelVersion) -> InUse | None:
    """The version in use, beside ``new``; None where that is the base."""
    name = history(workspace)[0]
    used = next((version for version in list_versions(workspace) if version.name == name), None)
    if used is None:
        return None
    same = used.training.get("data", {}).get("sha256") == new.training["data"]["sha256"]
    before, after = judged_by(used) if same else {}, judged_by(new)
    shared = [mark for mark in after if mark in before]
    return InUse(used.name, _change(before, after, shared, "hybrid") if shared else None)


def _change(before: Mapping[str, Any], after: Mapping[str, Any], shared: Sequence[str], mode: str) -> Change:
    """The paired change in NDCG@10 on the questions with the marks ``shared``."""
    # Records of before it was told do not say which questions have the same answers; the other one may.
    answers = [before[mark].get("answer", after[mark].get("answer", mark)) for mark in shared]
    one, other = ([judged[mark][f"{mode}_after"] for mark in shared] for judged in (before, after))
    return compare(one, other, answers)


def _differences(first: ModelVersion, second: ModelVersion) -> Iterator[str]:
    """Why the two were not judged alike, a sentence each."""
    for name, key in (("corpus", "corpus"), ("base model", "base")):
        one, other = first.training.get(key), second.training.get(key)
        if one != other:
            yield f"the {name} differs: {one} and {other}"
    if first.training.get("data") != second.training.get("data"):
        yield "the documents have changed in between"
    if first.evaluation.get("evidence") != second.evaluation.get("evidence"):
        yield f"judged by {first.evaluation.get('evidence')}, and by {second.evaluation.get('evidence')}"
    one, other = judged_by(first), judged_by(second)
    if one.keys() != other.keys():
        yield (
            f"not the same test questions: {len(one.keys() & other.keys())} are shared, of {len(one)} and "
            f"{len(other)}; the table has each version on its own"
        )
