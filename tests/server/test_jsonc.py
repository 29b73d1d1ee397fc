from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.jsonc import JsoncError, value_at, with_value

COMMENTED = """\
// What I use. "mcpServers": {}
{
    "theme": "dark", /* } */
    "mcpServers": {
        // the files
        "files": {"command": "npx", "args": ["-y", "// not a comment"],},
    }, // the end
}
"""


def test_a_new_value_goes_first_and_all_else_stays_letter_by_letter() -> None:
    text = with_value(COMMENTED, ("mcpServers", "new"), {"command": "x", "args": []})
    added = '\n        "new": {\n            "command": "x",\n            "args": []\n        },'
    assert text == COMMENTED.replace('"mcpServers": {\n ', f'"mcpServers": {{{added}\n ')
    assert value_at(text, ("mcpServers", "files", "args")) == ["-y", "// not a comment"]


def test_an_old_value_is_replaced_in_its_place() -> None:
    text = with_value(COMMENTED, ("mcpServers", "files"), 7)
    assert '        "files": 7,\n    }, // the end' in text and "// the files" in text
    assert value_at(with_value(text, ("theme",), None), ("theme",)) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '{\n  "a": {\n    "b": 1\n  }\n}\n'),
        ("{}", '{\n  "a": {\n    "b": 1\n  }\n}'),
        ('{"x": 1}', '{\n  "a": {\n    "b": 1\n  },\n  "x": 1}'),
        ('{\n\t"x": 1\n}', '{\n\t"a": {\n\t\t"b": 1\n\t},\n\t"x": 1\n}'),
        ('{"a": {}}', '{"a": {\n  "b": 1\n}}'),
        ("{ // nothing\n}", '{\n  "a": {\n    "b": 1\n  } // nothing\n}'),
    ],
)
def test_objects_that_are_missing_are_made(text: str, expected: str) -> None:
    assert with_value(text, ("a", "b"), 1) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"a" 1}',
        '{"a": 1} x',
        "{'a': 1}",
        '{"a": tru}',
        '{"a": 01}',
        '{"a":}',
        '["a"',
        '{"a": "\n"}',
        "/*",
        '{"\\x": 1}',
        "{,}",
        "[" * 500,
    ],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(JsoncError):
        with_value(text, ("a",), 1)


def test_what_should_be_an_object_and_is_none_is_refused() -> None:
    with pytest.raises(JsoncError, match="mcpServers is no object"):
        with_value('{"mcpServers": []}', ("mcpServers", "a"), 1)
    with pytest.raises(JsoncError, match="it is no object"):
        with_value("[]", ("a",), 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4), JSON, st.sampled_from([None, 1, "\t"]))
def test_the_rest_of_any_document_means_what_it_meant(
    document: dict[str, object], value: object, indent: object
) -> None:
    document.pop("servers", None)
    text = with_value(json.dumps(document, indent=indent), ("servers", "new"), value)  # type: ignore[arg-type]
    assert json.loads(text) == {"servers": {"new": value}, **document}
    assert value_at(text, ()) == json.loads(text)
