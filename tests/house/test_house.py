"""The house's own check: each fault planted in a small tree of its own is found, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks import house

SOUND = '''"""A module that keeps every rule."""

from stages.core.errors import first_line

limit = 3  # Names of variables are their own affair.


class Reader:
    """Reads what it is given."""

    def text(self, error: Exception) -> str:
        """The error's first line that says something."""
        said = first_line(error)
        return said
'''
ERRORS = '''"""Where the first line of a foreign error is taken."""


def first_line(error):
    """The first line that says something."""
    return str(error).splitlines()[0]
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree without a fault."""
    write(tmp_path, "stages/core/errors.py", ERRORS)
    write(tmp_path, "stages/core/reader.py", SOUND)
    write(tmp_path, "stages/core/__init__.py", "")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def body(lines: int) -> str:
    return "".join(f"    field_{n} = {n}\n" for n in range(lines))


def test_a_tree_that_keeps_the_rules_passes_and_its_figures_are_printed(tree, capsys):
    write(tree, "stages/core/reader.py", SOUND + "# Why it is so.\nx = 1  # noqa: F401\n")
    assert house.main(tree) == 0
    printed = capsys.readouterr().out
    lines = len(ERRORS.splitlines()) + len(SOUND.splitlines()) + 2
    assert f"files 3, lines {lines}, median 6, longest 16 (stages/core/reader.py)" in printed
    assert "longest class 7 (stages/core/reader.py:8 Reader)" in printed
    # The comment behind `limit` and the one on its own line; the word for a linter is none.
    assert f"comments 2 lines, {2 / lines:.2%}" in printed


IMPORT = '"""A module with an import."""\n\n'


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("from stages.core.b import two\n", "import stages.core.a\n"),
        ("from stages.core import b\n", "from . import a\n"),
        ("def f():\n    from stages.core.b import two\n", "from ..core import a\n"),
    ],
)
def test_two_modules_that_import_each_other_are_a_cycle_wherever_the_import_stands(tree, capsys, first, second):
    write(tree, "stages/core/a.py", IMPORT + first)
    write(tree, "stages/core/b.py", IMPORT + second)
    assert house.main(tree) == 1
    assert "imports in a ring: stages.core.a, stages.core.b\n" in capsys.readouterr().out


def test_two_rings_are_told_apart_and_a_line_of_imports_is_none(tree):
    for a, b in ("ab", "ba", "cd", "dc", "bc", "de"):
        path = f"stages/core/{a}.py"
        before = (tree / path).read_text() if (tree / path).exists() else IMPORT
        write(tree, path, f"{before}import stages.core.{b}\n")
    write(tree, "stages/core/e.py", IMPORT)
    found = list(house.import_cycles(house.modules(tree, house.PACKAGES)))
    assert [f.where for f in found] == ["stages.core.a", "stages.core.c"]


def test_fourteen_files_are_a_crowd_unless_half_of_them_are_plugins(tree):
    for n in range(14):
        write(tree, f"stages/core/many/m{n}.py", IMPORT)
        write(tree, f"stages/core/plugins/p{n}.py", IMPORT + ("PLUGIN = 1\n" if n < 7 else ""))
        write(tree, f"stages/core/few/f{n}.py" if n else "stages/core/few/__init__.py", IMPORT)
    (fault,) = house.crowded_folders(house.modules(tree, house.PACKAGES))
    assert str(fault) == "stages/core/many: 14 files, of which 0 are plugins; at most 13"


LONG_CLASS = f'"""One long class."""\n\n\nclass Long:\n    """It has many fields."""\n\n{body(118)}'
FAULTS = [
    ("long_files", '"""Long."""\n' + "x = 1\n" * 500, "501 lines; at most 500"),
    ("large_classes", LONG_CLASS, "stages/core/bad.py:4 Long: 121 lines; at most 120"),
    ("short_docstrings", 'def f():\n    """Says very little."""\n', "stages/core/bad.py:1 f: docstring"),
    ("short_docstrings", 'class C:\n    """One row."""\n', "stages/core/bad.py:1 C: docstring"),
    ("short_docstrings", 'class C:\n    async def f(self):\n        """Goes on."""\n', "bad.py:2 f: docstring"),
    ("short_docstrings", '"""Of cosmo."""\n', "stages/core/bad.py:1 module: docstring"),
    ("banned_names", "def _settle():\n    pass\n", "stages/core/bad.py:1: name '_settle'"),
    ("banned_names", "class Voice:\n    pass\n", "stages/core/bad.py:1: name 'Voice'"),
    ("banned_names", "class C:\n    told: int = 1\n", "stages/core/bad.py:2: name 'told'"),
    ("banned_names", "class C:\n    picture = 1\n", "stages/core/bad.py:2: name 'picture'"),
    ("banned_names", "class C:\n    def f(self):\n        self._held = 1\n", "stages/core/bad.py:3: name '_held'"),
    ("foreign_first_lines", "def f(error):\n    return str(error).splitlines()[0]\n", "stages/core/bad.py:2: use"),
    ("foreign_first_lines", "def f(e):\n    return (str(e).splitlines() or [''])[-1]\n", "stages/core/bad.py:2: use"),
    ("foreign_first_lines", "def f(e):\n    return [*str(e).strip().splitlines()[:1]]\n", "stages/core/bad.py:2: use"),
    ("foreign_first_lines", 'def f(e):\n    return repr(e).split("\\n")[0]\n', "stages/core/bad.py:2: use"),
    ("foreign_first_lines", 'def f(e):\n    return f"{e}".partition("\\n")[0]\n', "stages/core/bad.py:2: use"),
]


@pytest.mark.parametrize(("rule", "text", "message"), FAULTS, ids=[f"{n}-{f[0]}" for n, f in enumerate(FAULTS)])
def test_a_planted_fault_is_found_by_its_rule_and_ends_the_check_with_1(tree, capsys, rule, text, message):
    write(tree, "stages/core/bad.py", text)
    found = list(getattr(house, rule)(house.modules(tree, house.PACKAGES)))
    assert len(found) == 1
    assert message in str(found[0])
    assert house.main(tree) == 1
    assert message in capsys.readouterr().out


def test_what_is_no_fault_is_not_reported(tree):
    write(
        tree,
        "stages/core/fine.py",
        '"""Words of prose: what was said and told here."""\n'
        "def f(text, error):\n"
        '    """The reply, as it was meant to be told."""\n'
        "    told = text.splitlines()[0]\n"
        "    place = str(error).split(':')[0]\n"
        "    return told + place\n",
    )
    assert house.main(tree) == 0


def test_a_module_may_have_a_name_that_is_only_banned_for_modules_as_an_attribute(tree):
    write(tree, "stages/core/state.py", "class C:\n    state = 1\n")
    (fault,) = house.banned_names(house.modules(tree, house.PACKAGES))
    assert "stages/core/state.py: name 'state'" in str(fault)
