from __future__ import annotations

from pathlib import Path

import pytest
from small_material import material_of, of_rule

from trainer.mining import mine

SAID = "Adds an item to the basket."


def code_pairs(root: Path, comment: str) -> dict[str, str]:
    """The pairs of a function with ``comment`` above it."""
    above = "".join(f"# {line}\n" for line in comment.split("\n"))
    material = material_of(root, {"shop.py": f"{above}def to_basket(item):\n    put(item)\n"})
    return of_rule(mine(material, ["code_symbol"]), "code_symbol")


@pytest.mark.parametrize(
    "comment",
    [
        f"{SAID[:-1]}\n@param {{string}} item what is added",
        f"{SAID[:-1]}\n:param item: what is added\n:returns: nothing",
        f"\\brief {SAID}\n\\param item what is added",
        f"@brief {SAID[:-1]}\n@return nothing",
        f"{SAID[:-1]}\nTODO: this should be moved elsewhere",
        f"{SAID}\nnolint:errcheck",
    ],
)
def test_the_first_sentence_of_a_documentation_ends_before_its_tags(tmp_path: Path, comment: str) -> None:
    found = code_pairs(tmp_path, comment)
    assert {anchor.rstrip(".") for anchor in found} == {SAID.rstrip("."), "to basket"}


def test_roles_and_commands_within_a_sentence_do_not_end_it(tmp_path: Path) -> None:
    said = "Returns the smallest number that is above\n\\p item and a multiple of\n:math:`x` in all cases."
    assert " ".join(said.split()) in code_pairs(tmp_path, said)


@pytest.mark.parametrize(
    "comment",
    [
        "---------- helpers for the checkout page ----------",
        "====================\nhelpers for the page\n====================",
        "TODO: this should be moved\nto another module one day",
        "go:generate stringer -type=State",
        "type: ignore[no untyped def]",
    ],
)
def test_what_is_no_documentation_of_a_symbol_is_not_learned_from(tmp_path: Path, comment: str) -> None:
    assert code_pairs(tmp_path, comment) == {}
