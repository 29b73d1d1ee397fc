from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from retrieval import grammars
from retrieval.errors import DocumentError
from retrieval.structure import Heading
from retrieval.structure_code import outline, read

MODULE = '''\
#!/usr/bin/env python
"""A queue.

    Of jobs.
"""

import os

LIMIT = 5


# How big a queue may get.
# In jobs.
@decorated(by="that")
@and_that
class Queue(Base, metaclass=Meta):
    """Holds jobs."""

    size: int = 0

    def push(self, job: Job, *, first: bool = False) -> None:
        """Add ``job``.

        At the end.
        """
        self.jobs.append(job)

    class Inner:
        x = 1
        def deep(self): return 1

    async def pull(
        self,
        timeout: float,  # seconds
    ) -> Job:
        return self.jobs.pop()


TABLE = {
    "a": 1,
    "b": 2,
    "c": 3,
}

SMALL = 1

def helper(): pass


if __name__ == "__main__":
    queue = Queue()
    queue.push(1)
    helper()
'''


def shown(text: str, suffix: str) -> list[str]:
    """Headings indented by their level, blocks by their lines and first words."""
    return [
        "  " * (item.level - 1) + item.text
        if isinstance(item, Heading)
        else f"{item.first_line}-{item.last_line} {item.kind}: {item.text.split(chr(10))[0].strip()}"
        for item in outline(text, suffix)
    ]


def test_python_is_read_by_symbol_with_documentation_and_code_below() -> None:
    assert shown(MODULE, ".py") == [
        "1-1 code: #!/usr/bin/env python",
        "2-4 paragraph: A queue.",
        "7-7 code: import os",
        "9-9 code: LIMIT = 5",
        "class Queue(Base, metaclass=Meta)",
        "12-13 paragraph: How big a queue may get.",
        '14-15 code: @decorated(by="that")',
        "17-17 paragraph: Holds jobs.",
        "19-19 code: size: int = 0",
        "  def push(self, job: Job, *, first: bool=False) -> None",
        "21-21 code: def push(self, job: Job, *, first: bool = False) -> None:",
        "22-24 paragraph: Add ``job``.",
        "26-26 code: self.jobs.append(job)",
        "  class Inner",
        "29-29 code: x = 1",
        "    def deep(self)",
        "30-30 code: def deep(self): return 1",
        "  async def pull(self, timeout: float) -> Job",
        "32-35 code: async def pull(",
        "36-36 code: return self.jobs.pop()",
        "TABLE",
        "39-43 code: TABLE = {",
        "45-45 code: SMALL = 1",
        "def helper()",
        "47-47 code: def helper(): pass",
        'if __name__ == "__main__":',
        '50-53 code: if __name__ == "__main__":',
    ]


def test_a_long_signature_is_short_in_the_heading_and_whole_in_the_text() -> None:
    parameters = ", ".join(f"parameter_{number}: dict[str, int] = default_{number}" for number in range(9))
    [heading, signature, body] = outline(f"def f({parameters}):\n    return 1\n", ".py")
    assert heading.text == f"def f({', '.join(f'parameter_{number}' for number in range(9))})"
    assert "default_8" in signature.text
    assert body.text == "    return 1"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ('"""One line."""\n', "One line."),
        ("'single'\n", "single"),
        ('r"""Raw \\d."""\n', "Raw \\d."),
        ('"""Ends."""  # noqa\n', "Ends."),
        ('"""\nBelow.\n"""\n', "Below."),
        ('"""Quotes "inside"."""\n', 'Quotes "inside".'),
        ('"""Not alone."""; x = 1\n', '"""Not alone."""; x = 1'),
        ('""""""\n', '""""""'),
    ],
)
def test_docstrings_read_without_their_quotes(code: str, text: str) -> None:
    [block] = outline(code, ".py")
    assert block.text == text


BROKEN = "def f(:\n    x = (\n\n    y\n\nclass A\n  pass\n\n\nprint 'x'\n"


def test_what_cannot_be_parsed_is_cut_where_its_blocks_end() -> None:
    assert shown(BROKEN, ".py") == ["1-4 code: def f(:", "6-7 code: class A", "10-10 code: print 'x'"]


@pytest.mark.parametrize("code", ["(" * 50_000, "x = " + "-" * 50_000 + "1", "\x0c\nx = '\\d'\n", "if 1 is 1: pass\n"])
def test_no_python_whatever_fails_or_warns(code: str) -> None:
    assert outline(code, ".py")


def test_a_file_that_is_no_text_or_empty_says_so() -> None:
    with pytest.raises(DocumentError, match=r"^a\.py: binary file$"):
        read("a.py", b"\x7fELF\0\0\x01")
    with pytest.raises(DocumentError, match=r"^a\.py: no text$"):
        read("a.py", b"\n \n")
    assert read("src/a.py", b"x = 1\n").title == "src/a.py"


# Other languages

SOURCES = {
    ".ts": (
        "/** A queue. */\nexport abstract class Queue<T> extends Base {\n  size = 0;\n\n  // Adds one.\n"
        "  push(item: T): void {\n    this.items.push(item);\n  }\n}\n\nexport const add = (a: number) => {\n"
        "  return a;\n};\n",
        ["export abstract class Queue<T> extends Base", "  push(item: T): void", "export const add = (a: number)"],
    ),
    ".js": (
        "function add(a, b) {\n  return a + b;\n}\nclass A {\n  m() {}\n}\n",
        ["function add(a, b)", "class A", "  m()"],
    ),
    ".go": (
        "package q\n\n// Queue holds jobs.\ntype Queue struct {\n\tn int\n}\n\nfunc (q *Queue) Push(n int) error {\n"
        "\treturn nil\n}\n",
        ["type Queue struct", "func (q *Queue) Push(n int) error"],
    ),
    ".rs": (
        "/// Shows.\nimpl fmt::Display for P {\n    fn fmt(&self) -> R {\n        1\n    }\n}\n",
        ["impl fmt::Display for P", "  fn fmt(&self) -> R"],
    ),
    ".java": (
        "class Shop {\n  /** Sells. */\n  int sell(String what) throws E {\n    return 1;\n  }\n}\n",
        ["class Shop", "  int sell(String what) throws E"],
    ),
    ".h": (
        "#ifndef A\n#define A\nnamespace n {\ntemplate <typename T>\nclass Q {\n  void push(T t) {}\n};\n}\n#endif\n",
        ["namespace n", "  template <typename T> class Q", "    void push(T t)"],
    ),
    ".c": (
        "typedef struct {\n  int x;\n} point_t;\n\nint main(void)\n{\n  return 0;\n}\n",
        ["typedef struct point_t", "int main(void)"],
    ),
    ".cs": (
        "namespace N {\n  class Q<T> : B {\n    public void Push(T t) { }\n  }\n}\n",
        ["namespace N", "  class Q<T> : B", "    public void Push(T t)"],
    ),
    ".rb": (
        "module Shop\n  # A queue.\n  class Queue < Base\n    def push(item)\n      1\n    end\n  end\nend\n",
        ["module Shop", "  class Queue < Base", "    def push(item)"],
    ),
    ".php": (
        "<?php\nclass Thing {\n  public function run(int $x): int { return $x; }\n}\n",
        ["class Thing", "  public function run(int $x): int"],
    ),
    ".sh": ("# Says hello.\nhello() {\n  echo hi\n}\n", ["hello()"]),
    ".sql": ("-- Customers.\nCREATE TABLE customers (\n  id integer\n);\n", ["CREATE TABLE customers"]),
}


@pytest.mark.parametrize("suffix", SOURCES)
def test_other_languages_are_read_by_symbol(suffix: str) -> None:
    text, headings = SOURCES[suffix]
    items = outline(text, suffix)
    assert ["  " * (item.level - 1) + item.text for item in items if isinstance(item, Heading)] == headings


def test_comments_above_a_symbol_are_its_documentation() -> None:
    text = "int a;\n\n/**\n * Opens it.\n *   Slowly.\n */\nint open(void)\n{\n}\n"
    assert shown(text, ".c")[1:] == ["int open(void)", "4-5 paragraph: Opens it.", "7-9 code: int open(void)"]


HEADER = """\
#ifndef PUMP_H
extern "C" {
/** Opens a pump. */
API struct pump *pump_open(const char *port,
                           int flags);

/** Called by it. */
extern int (*pump_hook)(int);
typedef int (*hook)(int);
}

/// A pump.
class Pump {
public:
    /** Stops it. */
    ~Pump();
    /// Whether it runs.
    explicit operator bool() const;
    int rpm;
    /// Primes it.
    template <class T> T prime(T seconds);
    static int (*handler)(int);
};
#endif
"""


def test_functions_that_a_header_declares_are_symbols_with_the_comments_above_them() -> None:
    assert shown(HEADER, ".h") == [
        "1-2 code: #ifndef PUMP_H",
        "API struct pump *pump_open(const char *port, int flags)",
        "3-3 paragraph: Opens a pump.",
        "4-5 code: API struct pump *pump_open(const char *port,",
        "typedef int (*hook)(int)",
        "7-7 paragraph: Called by it.",
        "8-8 code: extern int (*pump_hook)(int);",
        "9-9 code: typedef int (*hook)(int);",
        "class Pump",
        "10-10 code: }",
        "12-12 paragraph: A pump.",
        "13-14 code: class Pump {",
        "  ~Pump()",
        "15-15 paragraph: Stops it.",
        "16-16 code: ~Pump();",
        "  explicit operator bool() const",
        "17-17 paragraph: Whether it runs.",
        "18-18 code: explicit operator bool() const;",
        "  template <class T> T prime(T seconds)",
        "19-19 code: int rpm;",
        "20-20 paragraph: Primes it.",
        "21-21 code: template <class T> T prime(T seconds);",
        "  static int (*handler)(int);",
        "22-23 code: static int (*handler)(int);",
        "24-24 code: #endif",
    ]


def test_a_function_that_a_source_file_of_c_declares_is_read_where_it_is_defined() -> None:
    text = "static int add(int a);\n\n/* Adds. */\nstatic int add(int a)\n{\n}\n"
    assert shown(text, ".c") == [
        "1-1 code: static int add(int a);",
        "static int add(int a)",
        "3-3 paragraph: Adds.",
        "4-6 code: static int add(int a)",
    ]


@pytest.mark.parametrize(
    ("suffix", "text", "headings"),
    [
        (
            ".ts",
            "export declare function open(\n  port: string,\n): Pump;\ndeclare class Pump {\n  prime(): void;\n}\n"
            "interface Options {\n  onStart(): void;\n}\nabstract class A {\n  abstract run(): void;\n}\n",
            [
                "export declare function open( port: string, ): Pump",
                "class Pump",
                "  prime(): void",
                "interface Options",
                "  onStart(): void",
                "abstract class A",
                "  abstract run(): void",
            ],
        ),
        (
            ".java",
            "interface Shop {\n  int sell(String what,\n    int count);\n}\n",
            ["interface Shop", "  int sell(String what, int count)"],
        ),
    ],
)
def test_functions_without_a_body_are_symbols(suffix: str, text: str, headings: list[str]) -> None:
    items = outline(text, suffix)
    assert ["  " * (item.level - 1) + item.text for item in items if isinstance(item, Heading)] == headings


@pytest.fixture
def no_grammars(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "tree_sitter", None)
    grammars._parser.cache_clear()
    yield
    grammars._parser.cache_clear()


@pytest.mark.usefixtures("no_grammars")
def test_without_tree_sitter_code_is_cut_where_its_blocks_end() -> None:
    text = "// Adds.\nfunction add(a, b) {\n  return a;\n\n}\n\nvar x = 1;\n"
    assert shown(text, ".js") == ["1-5 code: // Adds.", "7-7 code: var x = 1;"]


@pytest.mark.parametrize("suffix", SOURCES)
@pytest.mark.parametrize("junk", ["{", "(", "class A {", "<<<", "\ufffd", "'"])
def test_no_code_whatever_fails(suffix: str, junk: str) -> None:
    assert outline(junk * 500, suffix)
