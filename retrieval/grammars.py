"""The symbols of source code in languages that tree-sitter has a grammar for (the extra ``code``).

The names of nodes are those of the grammars; most grammars share them, so there is one list for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from retrieval.structure_code import COMMENT, SIGNATURE_CHARACTERS, Symbol

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

__all__ = ["symbols_of"]

GRAMMARS = {
    **dict.fromkeys((".js", ".mjs", ".cjs", ".jsx"), ("tree_sitter_javascript", "language")),
    **dict.fromkeys((".ts", ".mts", ".cts"), ("tree_sitter_typescript", "language_typescript")),
    ".tsx": ("tree_sitter_typescript", "language_tsx"),
    ".go": ("tree_sitter_go", "language"),
    ".java": ("tree_sitter_java", "language"),
    ".c": ("tree_sitter_c", "language"),
    **dict.fromkeys((".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx"), ("tree_sitter_cpp", "language")),
    ".cs": ("tree_sitter_c_sharp", "language"),
    ".rs": ("tree_sitter_rust", "language"),
    ".rb": ("tree_sitter_ruby", "language"),
    ".php": ("tree_sitter_php", "language_php"),
    **dict.fromkeys((".sh", ".bash"), ("tree_sitter_bash", "language")),
    ".sql": ("tree_sitter_sql", "language"),
}

CONTAINERS = frozenset(
    "class class_declaration abstract_class_declaration class_specifier struct_specifier struct_declaration "
    "interface_declaration trait_declaration trait_item impl_item mod_item module internal_module record_declaration "
    "namespace_definition namespace_declaration enum_declaration annotation_type_declaration singleton_class".split()
)
SIGNATURES = frozenset(
    "method_declaration function_signature_item function_signature method_signature abstract_method_signature".split()
)
"""What says a signature and no more where it has no body."""
SYMBOLS = (
    CONTAINERS
    | SIGNATURES
    | frozenset(
        "function_declaration generator_function_declaration function_definition function_item "
        "method_definition method singleton_method constructor_declaration destructor_declaration "
        "operator_declaration delegate_declaration type_declaration type_alias_declaration type_definition type_item "
        "struct_item enum_item union_item enum_specifier union_specifier macro_definition preproc_function_def "
        "create_table create_view create_materialized_view create_function create_procedure create_trigger create_type "
        "create_index".split()
    )
)
THROUGH = frozenset(
    "export_statement ambient_declaration template_declaration linkage_specification declaration_list statement "
    "preproc_ifdef preproc_if preproc_else expression_statement file_scoped_namespace_declaration".split()
)
"""Nodes around definitions that are none themselves."""
ASSIGNED = frozenset(("arrow_function", "function_expression", "generator_function", "class"))
"""What makes ``const name = …`` a definition in JavaScript."""
BODILESS = frozenset(("struct_specifier", "enum_specifier", "union_specifier", "class_specifier"))
"""Without a body these name a type that is defined elsewhere."""
DECLARATIONS = frozenset(("declaration", "field_declaration"))
"""What in C and C++ may declare a function, or a variable."""
WITH_DEFINITIONS = (".c", ".cc", ".cpp", ".cxx")
"""Files that declare outside of classes what they, or others, define: the definition says more."""
DEPTH = 12
OPENING = re.compile(r"\s*(?:=>|[{=:;]|\bAS)\s*$")
"""What opens a body, at the end of a signature."""


def symbols_of(text: str, suffix: str) -> tuple[Symbol, ...]:
    """Return the symbols of ``text``; none where tree-sitter or the grammar of ``suffix`` is not installed."""
    parser = _parser(*GRAMMARS[suffix]) if suffix in GRAMMARS else None
    if parser is None:
        return ()
    source = text.encode()
    return _inside(parser.parse(source).root_node, source, 0, declared=suffix not in WITH_DEFINITIONS)


@cache
def _parser(module: str, function: str) -> Parser | None:
    try:
        from tree_sitter import Language, Parser

        return Parser(Language(getattr(import_module(module), function)()))
    except ImportError:
        return None


def _inside(node: Node, source: bytes, depth: int, declared: bool = True) -> tuple[Symbol, ...]:
    """The symbols in ``node``, each on lines of its own, in their order; functions that are only ``declared`` too."""
    found: list[Symbol] = []
    for outer, definition in _definitions(node, depth, declared):
        symbol = _symbol(outer, definition, source, depth)
        if not found or symbol.start >= found[-1].end:
            found.append(symbol)
    return tuple(found)


def _definitions(node: Node, depth: int, declared: bool) -> Iterator[tuple[Node, Node]]:
    """Yield (the node that holds a definition and its ``export`` or ``template``, the definition)."""
    for child in node.named_children:
        if child.type in SYMBOLS:
            if child.type not in BODILESS or child.child_by_field_name("body"):
                yield child, child
        elif child.type in ("lexical_declaration", "variable_declaration"):
            if _assigns_function(child):
                yield child, child
        elif child.type in DECLARATIONS:
            if declared and _declares_function(child):
                yield child, child
        elif child.type in THROUGH and depth < DEPTH:
            inner = list(_definitions(child, depth + 1, declared))
            # What a single definition is wrapped in belongs to it.
            alone = len(inner) == 1 and child.type in ("export_statement", "template_declaration", "statement")
            yield from [(child, inner[0][1])] if alone else inner


def _assigns_function(node: Node) -> bool:
    values = [child.child_by_field_name("value") for child in node.named_children]
    return any(value is not None and value.type in ASSIGNED for value in values)


def _declares_function(node: Node) -> bool:
    """Whether a declaration of C or C++ is that of a function; a pointer to one is a variable."""
    declarator = node.child_by_field_name("declarator")
    while declarator and declarator.type in ("pointer_declarator", "reference_declarator"):
        declarator = declarator.named_children[-1] if declarator.named_children else None
    if declarator is None or declarator.type != "function_declarator":
        return declarator is not None and declarator.type == "operator_cast"
    name = declarator.child_by_field_name("declarator")
    return name is not None and name.type != "parenthesized_declarator"


def _symbol(outer: Node, node: Node, source: bytes, depth: int) -> Symbol:
    body = _body(node)
    stop = body.start_byte if body else node.end_byte
    head = source[outer.start_byte : stop].decode(errors="replace").strip().split("\n")
    whole = body or node.type in DECLARATIONS | SIGNATURES
    said = [line for line in head if not COMMENT.match(line)] if whole else head[:1]
    signature = OPENING.sub("", " ".join(" ".join(said).split()))
    declared = node.child_by_field_name("declarator") if body and node.type == "type_definition" else None
    if declared:  # C says the name last
        signature += " " + source[declared.start_byte : declared.end_byte].decode(errors="replace")
    if len(signature) > SIGNATURE_CHARACTERS:
        signature = signature[:SIGNATURE_CHARACTERS].rstrip() + "…"
    signature = signature or node.type.replace("_", " ")
    start, end = outer.start_point.row, outer.end_point.row + (outer.end_point.column > 0)
    inner = _inside(body, source, depth + 1) if body and node.type in CONTAINERS and depth < DEPTH else ()
    inner = tuple(symbol for symbol in inner if symbol.start > start and symbol.end <= end)
    # The line with the signature also has the bracket that opens the body, and stays with the code.
    return Symbol(signature, start, start, start, max(end, start + 1), inner=inner)


def _body(node: Node) -> Node | None:
    if node.type in ("lexical_declaration", "variable_declaration"):
        values = (child.child_by_field_name("value") for child in node.named_children)
        value = next((value for value in values if value is not None and value.type in ASSIGNED), None)
        return value.child_by_field_name("body") if value else None
    body = node.child_by_field_name("body")
    if body is None and node.type in ("type_definition", "type_declaration"):
        inner = next((child for child in node.named_children if child.child_by_field_name("body")), None)
        body = inner.child_by_field_name("body") if inner else None
    if body is None:
        kinds = ("declaration_list", "column_definitions", "function_body", "create_query", "class_body")
        body = next((child for child in node.named_children if child.type in kinds), None)
    return body
