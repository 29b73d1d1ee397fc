"""Which columns of a table hold what: its texts, its titles, its ids.

Settings come first, then names, then contents. Names are compared without regard to case, spaces,
underscores and plurals, so that "Question Text", ``questionText`` and ``question_texts`` are one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

__all__ = [
    "FLAGS",
    "NOTHING",
    "Columns",
    "Roles",
    "by_code",
    "by_content",
    "by_name",
    "code_column",
    "is_apart",
    "is_code",
    "is_of_names",
    "is_part",
    "label",
    "name_columns",
    "normal_name",
    "value_columns",
]

IDS = ("_id", "id")
OTHER_IDS = tuple(
    "ticket_id ticket_number ticket case_id case_number case incident_number issue_id issue_key key number "
    "question_id faq_id article_id document_id doc_id record_id uid uuid guid".split()
)
"""Ids that count within their file only, and only where every record has its own."""
BODIES = ("text", "body", "content")
"""What a document's text is called, in BEIR's corpora and elsewhere; one of them is used."""
QUESTIONS = ("question", "question_text", "query", "q", "prompt", "instruction")
TITLES = tuple("title subject summary short_description headline topic issue problem name".split())
TERMS = ("term", "word", "acronym", "abbreviation")
"""The titles of a glossary, beside what they mean."""
MEANINGS = ("meaning", "definition")
PROSE = ("description", "detail", "message", "context", "passage", "step", *MEANINGS)
REMARKS = ("comment", "note")
"""The text where there is no answer; beside one they are about it."""
ANSWERS = tuple(
    "answer accepted_answer answer_text best_answer a resolution solution fix workaround response reply completion "
    "output".split()
)
PARTS = (*REMARKS, *ANSWERS, "replies", "message", "step", "thread")
"""What a record may hold many objects of that are no records themselves."""
WHOLE_NAME_ONLY = ("name", *TERMS, *MEANINGS, "a", "q", "issue", "problem", "context", "case", "key", "number")
"""Words that say nothing at the end of a longer name, as in ``user_name``."""
KNOWN = frozenset((*BODIES, *QUESTIONS, *TITLES, *TERMS, *PROSE, *REMARKS, *ANSWERS))

CODES = re.compile(
    r"(?:.*_)?(?:code|sku|(?:part|item|article|catalog|catalogue|model|product|material|ticket|case|incident|issue)"
    r"_(?:no|nr|number|id|key))|key|number"
)
"""What people call a record by, where each has its own."""
OF_GROUPS = re.compile(
    r"(?:.*_)?(?:zip|postal|post|country|language|lang|locale|currency|status|state|region|area|colou?r)_code"
)
"""Codes of what many records have in common, but in a list of these themselves."""
FEW_CODES = 5
"""So many rows tell a scheme of codes by what they look like."""
A_LIST = 10
"""So many rows make a list of what such codes stand for."""
A_CODE = re.compile(r"(?![0-9a-f]{16,}$)(?=.*[^\W\d_]|.*\d{3})[\w§](?:[\w.:/§-]{0,22}[\w§])?")
OF_A_SCHEME = re.compile(r"(?=.{3})[A-Z]{1,5}[-.]?\d[A-Z0-9./-]{0,10}")
"""A code by what it looks like, "E0105", whatever its column is called."""
NO_CODE = ("n/a", "none", "null", "tbd")
NAMES = re.compile(
    r"(?!is_|has_)(?:.*_)?(?:synonyms?|alias(?:es)?|keywords?|tags?|abbreviations?|acronyms?|includes|inclusions?|"
    r"(?:inclusion|index|search)_terms?|(?:other|alternate|alternative|former|common|brand|trade)_(?:name|title|term)s?|"
    r"also_(?:called|known_as|named)|category|categories)"
)
"""What else people call what a record is about, and what kind it is of."""
OF_PEOPLE = re.compile(
    r"(?:.*_)?(?:cc|bcc|to|from|by|authors?|owners?|assignees?|attendees|participants|reviewers?|watchers?|members?|"
    r"collaborators?(?:_names?)?|contributors?|maintainers?|approvers?|team|contacts?|emails?|phones?|address(?:es)?|"
    r"(?:user|customer|agent|employee|manager)s?(?:_?names?)?|(?:first|last|full|nick)_?name|reporters?|requesters?|creators?|editors?|recipients?|"
    r"street|city|(?:zip|post|postal)(?:_?code)?|attachments?|files?|paths?|urls?|links?|hours|comments?|notes?|remarks?)"
)
"""Columns whose lists are of people, places, files and remarks."""
OF_RANGES = re.compile(r".*_(?:from|to)")
"""Columns of people, unless they hold figures."""
OF_THE_RECORD = re.compile(
    r"(?:.*_)?(?:ids?|uu?id|guid|hash|checksum|md5|sha\d*|etag|status|priority|(?:assignee|owner)(?:_.*)?|locale|lang(?:uage)?(?:_code)?|"
    r"timestamp|views|(?:up|down)?votes|likes|(?:view|vote|like|comment|answer|reply|download|favou?rite|hit|click)_count|"
    r"(?:sort|display)_order|(?:creation|modification|update|publication|activity)_(?:date|time)|"
    r"(?:created|updated|modified|changed|edited|published|posted|opened|closed|resolved|deleted|archived|imported|"
    r"exported|indexed|crawled|accessed|viewed|reviewed|submitted|added)(?:_(?:at|on|date|time))?)|"
    r"(?:record_|document_|row_)?(?:version|revision|state|order|position|sort|rank|index|row|score)|meta(?:data)?"
)
"""Columns that administer a record and say nothing of what it is about."""
OF_MACHINES = re.compile(
    r"\S*(?:://|@)\S*|[0-9a-fA-F]{16,}|[0-9a-fA-F-]{36}|(?:[A-Za-z]:|\.{1,2})?[/\\]\S+|\S+[/\\]\S+\.[a-z]\w{1,4}|\{.*"
)
"""Cells that are addresses, hashes, paths to files, and what programs tell each other."""
COUNTED_AGAIN = re.compile(r"_\d+$")
"""What tells apart columns that are called the same."""
FLAGS = ("true", "false", "yes", "no", "y", "n", "on", "off", "0", "1")
NOTHING = ("", "n/a", "none", "null", "nan", "-")
VALUE_CHARACTERS = 60
"""A cell of more is no short value."""
NEARLY_EMPTY = 0.1
"""A column that holds something in less of the rows is one of exceptions."""
A_NAME = re.compile(r"(?=.*[^\W\d_]{3})(?!.*(?<!and)/)(?!.*\.\w{1,4}$)[^\W\d_][^@:]{0,79}")
MOST = 0.9
"""Of the rows so many have a code of their own where a column holds codes."""
MOSTLY = 0.8
"""Of the items in a cell so many are names where it lists names."""
PARAGRAPH = 2
"""Of more words an item that blank lines part from others may be a paragraph."""
LISTED = 1.5
"""So many names a cell, set apart by semicolons, bars or lines, make a column one of names whatever it is called."""
FULL_CELLS = 3
"""A column that is empty but for fewer cells is not judged by them."""
SAMPLE = 200
LEAST_CHARACTERS = 24
LEAST_WORDS = 4
"""The mean length of what may be taken for text where no name says so."""
TITLE_CHARACTERS = 120

WORD_EDGE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
NOT_WORD = re.compile(r"\W+")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that a corpus's settings name; what they leave open is guessed."""

    text: tuple[str, ...] = ()
    title: str = ""
    id: str = ""

    def missing(self, names: Iterable[str]) -> str:
        """The first setting that fits none of ``names`` (normal ones), as ``setting = value``; "" where all do."""
        known = set(names)
        if self.text and not known.intersection(map(normal_name, self.text)):
            return f"text_columns = {list(self.text)}"
        if self.title and normal_name(self.title) not in known:
            return f"title_column = {self.title!r}"
        return f"id_column = {self.id!r}" if self.id and normal_name(self.id) not in known else ""


@dataclass(frozen=True, slots=True)
class Roles:
    """The normal names of the columns with the id, the title and the texts ("" and () for none).

    ``question``: the title is a question, or the texts answer it. ``own_id``: the id counts in its file only.
    """

    texts: tuple[str, ...]
    title: str = ""
    id: str = ""
    question: bool = False
    own_id: bool = False


def normal_name(name: str) -> str:
    """``name`` in lower case, its words one underscore apart; a leading underscore (``_id``) stays."""
    words = NOT_WORD.sub("_", WORD_EDGE.sub("_", name.strip())).strip("_").lower()
    return f"_{words}" if name.startswith("_") else re.sub("_+", "_", words)


@lru_cache(maxsize=16)  # most records have the columns of one before
def by_name(names: tuple[str, ...], columns: Columns) -> Roles | None:
    """The roles of the columns ``names`` (normal ones), by the settings and by name; None where no text is found."""
    known = _known(names)
    title, texts, question = _texts(known)
    if columns.text:
        texts = [name for name in map(normal_name, columns.text) if name in names]
    if columns.title:
        title = normal_name(columns.title)
    if title in texts:
        title = ""
    id = normal_name(columns.id) if columns.id else next((name for name in IDS if name in names), "")
    own = "" if id else next((name for name in OTHER_IDS if name in names and name not in (title, *texts)), "")
    return Roles(tuple(texts), title, id or own, question and bool(title), bool(own)) if texts else None


def _known(names: Sequence[str]) -> dict[str, str]:
    """The first column for each name that is known, whole names before those that end in one."""
    found: dict[str, str] = {}
    for name in names:
        for form in (name, name.removesuffix("s")):
            if form in KNOWN:
                found.setdefault(form, name)
    for name in names:
        if name not in found.values():
            last = name.rpartition("_")[2]
            for form in (last, last.removesuffix("s")):
                if form in KNOWN and form not in WHOLE_NAME_ONLY:
                    found.setdefault(form, name)
    return found


def _texts(known: Mapping[str, str]) -> tuple[str, list[str], bool]:
    """Title and texts among the known columns, and whether they are a question and its answer."""
    body = next((name for name in BODIES if name in known), "")
    answers = [name for name in ANSWERS if name in known]
    prose = [] if body else [name for name in (*PROSE, *(() if answers else REMARKS)) if name in known]
    terms = TERMS if any(name in known for name in MEANINGS) else ()
    titles = [name for name in (*QUESTIONS, *TITLES, *terms) if name in known]
    title = "title" if body and "title" in known else next(iter(titles), "")
    texts = [*([body] if body else prose), *answers]
    question = title in QUESTIONS or bool(answers and not body)
    return known.get(title, ""), [known[name] for name in texts], question


def by_content(rows: Sequence[Mapping[str, str]], columns: Columns) -> Roles | None:
    """The roles by what the columns hold: the longest is the text, a short one before it the title.

    None where no column holds more than a few words.
    """
    sample = rows[:SAMPLE]
    names = list(dict.fromkeys(name for row in sample for name in row))
    characters = {name: _mean(sample, name, len) for name in names}
    words = {name: _mean(sample, name, lambda value: len(value.split())) for name in names}
    prose = [name for name in names if characters[name] >= LEAST_CHARACTERS and words[name] >= LEAST_WORDS]
    if not prose:
        return None
    text = max(prose, key=lambda name: characters[name])
    title = next(
        (
            name
            for name in names
            if name != text
            and 2 <= words[name] <= words[text] / 2
            and characters[name] <= TITLE_CHARACTERS
            and len({row.get(name, "") for row in sample}) > len(sample) / 2
        ),
        "",
    )
    guessed = Columns(text=(text,), title=columns.title or title, id=columns.id)
    return by_name(tuple(names), guessed)


def by_code(rows: Sequence[Mapping[str, str]], code: str, columns: Columns) -> Roles | None:
    """The roles in a list of codes with what they are called, and no text; None without ``code``, or a name for each.

    What is called so stands in the column whose name says so, or else in the one with most to say.
    """
    if not code or len(rows) < 2:
        return None
    sample = rows[:SAMPLE]
    names = list(dict.fromkeys(name for row in sample for name in row))
    values = {name: [value for row in sample if (value := row.get(name, "").strip())] for name in names}
    told = [
        name
        for name in names
        if name != code
        and len(set(values[name])) > len(sample) / 2
        and all(any(map(str.isalpha, value)) for value in values[name])
    ]
    if not told:
        return None
    known, _, _ = _texts(_known(names))
    title = known if known in told else max(told, key=lambda name: sum(map(len, values[name])))
    guessed = by_name(tuple(names), Columns(text=(title,), id=columns.id))
    return guessed and Roles((), title, guessed.id, own_id=guessed.own_id)


def code_column(rows: Sequence[Mapping[str, str]]) -> str:
    """The first column that by its name holds codes, and does, each record its own; "" where there is none.

    Whatever it is called ("HCPCS"), the first column of all is one where it holds nothing but codes of a scheme.
    """
    found: dict[str, list[str]] = {}
    for row in rows:
        for name, value in row.items():
            if CODES.fullmatch(name) and is_code(value):
                found.setdefault(name, []).append(value.strip())
    for name, codes in found.items():
        own = len(set(codes)) >= MOST * len(rows) and _tell(codes)
        if own and not (len(rows) < A_LIST and OF_GROUPS.fullmatch(name)):
            return name
    first = next(iter(rows[0]), "") if rows else ""
    schemed = {code for row in rows if OF_A_SCHEME.fullmatch(code := row.get(first, "").strip())}
    return first if len(schemed) == len(rows) >= FEW_CODES and first not in (*IDS, *OTHER_IDS) else ""


def _tell(codes: Sequence[str]) -> bool:
    """Whether codes do more than count rows; of one alone only a figure tells that others have their own."""
    if len(codes) == 1:
        return any(map(str.isdigit, codes[0]))
    numbers = [int(code) for code in codes if code.isdecimal()]
    counted = len(numbers) == len(codes) and min(numbers) < 2 and len(set(numbers)) > max(numbers) - 1
    return not counted


def is_code(value: str) -> bool:
    """Whether ``value`` may be what people call a record by."""
    return A_CODE.fullmatch(value.strip()) is not None and value.strip().casefold() not in NO_CODE


def is_part(name: str) -> bool:
    """Whether what is called ``name`` is part of the record that has it, be it an object or many."""
    return name in PARTS or name.removesuffix("s") in PARTS


def is_apart(name: str) -> bool:
    """Whether what is called ``name`` is of people, places or files, and no part of what a record says."""
    return OF_PEOPLE.fullmatch(name) is not None and not is_part(name)


def is_of_names(name: str) -> bool:
    """Whether what is called ``name`` holds other names, or kinds."""
    return NAMES.fullmatch(name) is not None


def label(name: str) -> str:
    """``name``, a normal one, as it stands before what it holds."""
    return name.replace("_", " ").strip().capitalize()


def name_columns(rows: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """The columns of other names and of kinds: by what they are called, or as lists of names by what they hold."""
    cells: dict[str, list[str]] = {}
    for row in rows:
        for name, value in row.items():
            if value and len(some := cells.setdefault(name, [])) < SAMPLE:
                some.append(value)
    return tuple(
        name
        for name, some in cells.items()
        if is_of_names(name)
        or (
            not OF_PEOPLE.fullmatch(name)
            and len(some) >= min(FULL_CELLS, len(rows))
            and sum(map(_listed, some)) >= LISTED * len(some)
        )
    )


def value_columns(rows: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """The columns of short values that are what a record says: prices, sizes, limits, units, dates of validity."""
    cells: dict[str, list[str]] = {}
    for row in rows:
        for name, value in row.items():
            if (said := value.strip()).casefold() not in NOTHING:
                cells.setdefault(name, []).append(said)
    least = max(min(FULL_CELLS, len(rows)), NEARLY_EMPTY * len(rows))
    return tuple(
        name for name, some in cells.items() if len(some) >= least and not _administers(name, some) and _differ(some)
    )


def _administers(name: str, cells: Sequence[str]) -> bool:
    """Whether a column is of people, places, remarks and files, or about the record, and not about its subject."""
    name = COUNTED_AGAIN.sub("", name)
    if OF_PEOPLE.fullmatch(name):
        return not (OF_RANGES.fullmatch(name) and _most(cells, lambda cell: any(map(str.isdigit, cell))))
    return name in OTHER_IDS or OF_THE_RECORD.fullmatch(name) is not None


def _differ(cells: Sequence[str]) -> bool:
    """Whether cells are short and tell records apart, other than by counting them; one alone has to have a figure."""
    if not _most(cells, lambda cell: len(cell) <= VALUE_CHARACTERS):
        return False
    several = {cell.casefold() for cell in cells}
    same = len(several) < min(len(cells), 2)
    counted = len(several) == len(cells) and not _tell(cells)
    machine = _most(cells, lambda cell: len(cell) <= VALUE_CHARACTERS and OF_MACHINES.fullmatch(cell) is not None)
    return not (same or counted or machine or several.issubset(FLAGS))


def _most(cells: Sequence[str], holds: Callable[[str], bool]) -> bool:
    return sum(map(holds, cells)) >= MOST * len(cells)


def _listed(value: str) -> int:
    """How many names a cell lists, 0 where it holds much else."""
    parts = [part.strip() for part in re.split(r"[;|]|\n\n", value)]
    # Paragraphs stand apart as the items of JSON's arrays do.
    if "\n\n" in value and any(len(part.split()) > PARAGRAPH for part in parts):
        return 0
    names = sum(A_NAME.fullmatch(part) is not None for part in parts)
    return names if names >= MOSTLY * len(parts) else 0


def _mean(rows: Sequence[Mapping[str, str]], name: str, measure: Callable[[str], int]) -> float:
    return sum(measure(row.get(name, "")) for row in rows) / len(rows)
