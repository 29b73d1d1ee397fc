"""Apply every mining rule to texts that are hostile to patterns; a script, so that its time can be bounded.

usage: hostile_rules.py FOLDER
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from small_material import material_of

from trainer.mining import RULES, mine

PROCESSOR_SECONDS = 30
LONG = 2_000_000


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))
    blanks = " " * LONG
    texts = (
        f"# Glossary\n\n```\nissue\n{blanks}x\n```\n",
        f"# Glossary\n\nQ: one\n{blanks}x\n\nword{blanks}x\n",
        f"# Long\n\n{'x' * LONG}, also known as long words.\n",
    )
    files = {f"{number}.md": text for number, text in enumerate(texts)}
    for number, gap in enumerate((" " * 50_000, "\n" * 50_000, f":{'a' * 50_000}")):
        files[f"{number}.py"] = f'def f():\n    """Read rows of a file.\n{gap}x"""\n'
    print(len(mine(material_of(Path(sys.argv[1]), files), list(RULES))))


if __name__ == "__main__":
    main()
