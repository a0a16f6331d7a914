"""Source code: its definitions are sections, its text is kept as it is."""

import textwrap

import pytest
from documents import blocks, read, read_all
from hypothesis import given
from hypothesis import strategies as st

from ingest.chunk import chunk
from ingest.config import IndexSettings
from ingest.errors import UnsupportedFile
from ingest.load import FORMATS
from ingest.types import Document


class Words:
    """A ruler that counts words."""

    def starts(self, text: str) -> list[int]:
        return [
            at
            for at in range(len(text))
            if text[at : at + 1].strip() and not text[at - 1 : at].strip()
        ]

    def count(self, text: str) -> int:
        return len(text.split())


def read_text(name: str, text: str) -> Document:
    (document,) = read(name, text.encode())
    assert document.text == text
    assert {"heading", "code"} >= {block.kind for block in document.blocks}
    return document


def sections(name: str, text: str) -> list[str]:
    """The path of each section, with the first words of its text."""
    settings = IndexSettings(chunk_tokens=200)
    chunks = chunk(read_text(name, textwrap.dedent(text).lstrip("\n")), Words(), settings)
    return [f"{c.section}: {' '.join(c.text.split()[:3])}" for c in chunks]


PYTHON = '''
"""What it does."""

import os

# Counts things.
@cache
def count(things):
    """Docstring."""

    return len(things)


class Shop(Base):
    name = "x"

    @property
    def open(
        self,
    ) -> bool:
        def inner():
            a = 1
            return a

        return inner()

    def short(self): return 1

    async def last(self):
        await self

        return None

if __name__ == "__main__":
    count([])
'''


def test_python_definitions_are_sections():
    """With their comments and decorators; what comes after an inner one belongs to the outer."""
    assert sections("a.py", PYTHON) == [
        ': """What it does."""',
        "count: # Counts things.",
        "Shop: class Shop(Base): name",
        "Shop > open: @property def open(",
        "Shop > open > inner: def inner(): a",
        "Shop > open: return inner()",
        "Shop: def short(self): return",
        "Shop > last: async def last(self):",
        ": if __name__ ==",
    ]


def test_python_of_another_version_is_told_by_its_indentation():
    """The sections are the same; a line of another language does not end them."""
    old = PYTHON.replace("count([])", 'print "old"')

    assert sections("a.py", PYTHON) == sections("a.py", old)


def test_text_is_kept_and_cut_at_blank_lines():
    """A heading is the first line of its definition; code keeps its indentation."""
    document = read_text("a.py", "import os\n\n\ndef f():\n    a = 1\n\n    return a\n")

    expected = [
        ("code", "import os"),
        ("heading", "def f():"),
        ("code", "    a = 1"),
        ("code", "    return a"),
    ]
    assert expected == blocks(document)
    assert document.title == ""
    assert dict(document.metadata) == {}


@pytest.mark.parametrize(
    ("name", "text", "paths"),
    [
        (
            "a.js",
            """
            // Loads.
            export async function load(url, { deep = {} }) {
              if (url) {
                run(url);
              }
            }
            const add = (a, b) =>
              a +
              b;
            class Shop extends Base {
              #open(key) {
                return key;
              }
              get size() { return 1; }
              async close() {
                await 1;
              }
            }
            run();
            """,
            ["load", "add", "Shop > #open", "Shop", "Shop > close", ""],
        ),
        (
            "a.ts",
            """
            export interface Shape<T> {
              area(): number;
            }
            abstract class Base<T extends object> {
              public async run<T>(all: Map<string, T>): Promise<void> {
                await 1;
              }
            }
            """,
            ["Shape", "Base > run"],
        ),
        (
            "A.java",
            """
            package a;

            /** Doc. */
            public final class A<T> extends B {
                @Override
                public <K> Map<String, K> get(final String a,
                        int b) throws IOException {
                    return call(a);
                }
            }
            """,
            ["", "A", "A > get"],
        ),
        (
            "a.c",
            """
            #include <a.h>

            struct node {
                int a;
            };

            static int
            helper(struct node *n)
            {
            #ifdef X
                return 1;
            #endif
            out:
                return 0;
            }

            int declared(int a);
            """,
            ["", "node", "helper", ""],
        ),
        (
            "a.cpp",
            """
            template <typename T>
            class Vec : public Base<T> {
            public:
                explicit Vec(int n) : n_(n) {
                    fill();
                }
            };

            void ns::run(const std::string& a) {
                a.size();
            }
            """,
            ["Vec", "Vec > Vec", "ns::run"],
        ),
        (
            "a.cs",
            """
            namespace A
            {
                [Serializable]
                public class Shop : IShop<int>
                {
                    public async Task<List<int>> RunAsync(string x)
                    {
                        await y();
                    }
                    public int Count(int a) =>
                        a +
                        1;
                }
            }
            """,
            ["", "Shop", "Shop > RunAsync", "Shop > Count"],
        ),
        (
            "a.go",
            """
            package a

            // Server serves.
            type Server struct {
                addr string
            }

            func (s *Server) Run(
                n int,
            ) error {
                return nil
            }

            var x = 1
            """,
            ["", "Server", "Server.Run", ""],
        ),
        (
            "a.rs",
            """
            //! The crate.

            /// A point.
            #[derive(Debug)]
            pub struct Point<T> {
                x: T,
            }

            impl<T> Display for Point<T> {
                pub(crate) fn fmt(&self) -> Result {
                    match x {
                        Err(e) => {
                            e
                        }
                    }
                }
            }
            """,
            ["", "Point", "impl<T> Display for Point<T> > fmt"],
        ),
        (
            "a.rb",
            """
            module Shop
              class Till < Base
                def initialize(x, y = {})
                  @x = x
                end

                def open?
                  true
                end
              end
            end
            """,
            ["Shop > Till > initialize", "Shop > Till > open?"],
        ),
        (
            "a.php",
            """
            <?php
            final class Shop extends Base
            {
                public static function make(array $a): ?self
                {
                    return null;
                }
            }
            """,
            ["", "Shop", "Shop > make"],
        ),
        (
            "a.kt",
            """
            data class Shop(val x: Int) : Base() {
                override suspend fun open(a: String): Int {
                    return 1
                }
                fun short(): Int = 1
            }
            """,
            ["Shop > open", "Shop"],
        ),
        (
            "a.swift",
            """
            extension Shop: Equatable {
                init(x: Int) {
                    self.x = x
                }
                mutating func move(by d: Int) -> Shop {
                    return self
                }
            }
            """,
            ["Shop > init", "Shop > move"],
        ),
        (
            "a.scala",
            """
            object Main extends App {
              def run(a: Int): Int = {
                a
              }
            }
            """,
            ["Main > run"],
        ),
        (
            "a.sh",
            """
            #!/bin/sh
            # Prints usage.
            usage() {
                echo x
            }
            usage
            """,
            ["", "usage", ""],
        ),
        (
            "a.sql",
            """
            -- People.
            CREATE TABLE IF NOT EXISTS app.people (
                id int
            );
            create or replace function add(a int)
            returns int as $$
            begin
              return a;
            end;
            $$ language plpgsql;
            insert into people values (1);
            """,
            ["app.people", "add", ""],
        ),
        ("a.toml", "a = 1\n\n[tool.x]\nb = 1\nc = 2\n\n[[y]]\nd = 1\ne = 2\n", ["", "tool.x", "y"]),
        (
            "a.yaml",
            "name: x\njobs:\n- a\n- b\nbuild:\n  c: 1\n  d: 2\nlast: y\n",
            ["", "jobs", "build", ""],
        ),
        ("Makefile", "all:\n\techo a\n\n\techo b\n", [""]),
        ("Dockerfile", "FROM x\nRUN y\n", [""]),
    ],
)
def test_definitions_of_other_languages_are_told_by_their_shape(name, text, paths):
    """Where a definition ends, what follows goes back to the section around it."""
    assert paths == [
        section.partition(": ")[0].removesuffix(":") for section in sections(name, text)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "var a=1;" * 2_000,
        "/* @generated by a tool */\nint a;\n",
        "// Code generated by protoc. DO NOT EDIT.\npackage a\n",
        "a = 1;\n" + "x" * 5_000 + "\n",
    ],
)
def test_what_no_person_wrote_is_skipped(text):
    """It says so, or stands in lines that nobody can read."""
    with pytest.raises(UnsupportedFile, match="generated code"):
        read("a.js", text.encode())


def test_one_long_line_among_many_does_not_make_code_generated():
    """A picture in a string is no reason to leave the rest out."""
    text = "def f(a):\n    return a\n" * 200 + f'LOGO = "{"A" * 3_000}"\n'

    assert len(read_text("a.py", text).blocks) > 0


def test_the_encoding_that_python_declares_is_believed():
    """Two words are too few to guess from."""
    (document,) = read(
        "a.py", "#!/usr/bin/python\n# coding: latin-1\nx = 'Größe'\n".encode("latin-1")
    )

    assert "Größe" in document.text


CODE = [name for name in FORMATS["text/x-source"].names if name.startswith(".")]
PIECES = st.sampled_from((
    "class A", "def f", "function ", "f(a)", " {", "}", "(", ")", ":", ";", "=>", "\n", "\n\n",
    "\n    ", "end", "create table t", "[s]", "key:", "impl ", "type T struct", "#", "//", "/*",
    "@x", "'''", "\t",
))  # fmt: skip


@given(pieces=st.lists(PIECES | st.text(max_size=5), max_size=40), suffix=st.sampled_from(CODE))
def test_any_text_becomes_a_well_formed_document(pieces, suffix):
    """Whatever stands in a file, blocks cover the text, and nothing unforeseen is raised."""
    documents, problems = read_all("a" + suffix, "".join(pieces).encode("utf-8", "surrogatepass"))

    assert bool(documents) != bool(problems)
    assert not any("could not be read" in error.message for error in problems.values())
