"""Source: what of a module counts, what it imports, and where that stands."""

import ast
import textwrap
from pathlib import Path

import pytest

import lora_theory
from lora_theory.store import source

PACKAGE = Path(lora_theory.__file__).parent


def module(tmp_path, text):
    path = tmp_path / "module.py"
    path.write_text(textwrap.dedent(text))
    source.module.cache_clear()
    return path, source.module(path)


def test_what_does_not_compute_is_left_out(tmp_path):
    plain = "x = 3\ndef f(a):\n    return a\nasync def g(a):\n    return a\n"
    full = '''
        """Docs."""
        x: int = 3
        def f(a: int) -> int:
            """Docs."""
            return a
        async def g(a: int) -> int:
            return a  # A comment.
        if TYPE_CHECKING:
            import y
        if __name__ == "__main__":
            f(3)
        '''
    (tmp_path / "plain").mkdir()
    left = [ast.unparse(module(tmp_path, text)[1]) for text in (plain, full)]
    assert left[0] == left[1].replace("x: None = 3", "x = 3")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import a.b", {"a.b"}),
        ("from a import b, c", {"a.b", "a.c"}),
        ("from a import *", {"a.*"}),
        ("import a as z\nz.b.c", {"a", "a.b", "a.b.c"}),
        ("x = 'a.b:c'", {"a.b.c"}),
        ("x = 'a word: b'", set()),
    ],
)
def test_imports_are_found(text, found, tmp_path):
    path, tree = module(tmp_path, text)
    assert {name for _, name in source.imports(path, tree, tree)} == found


def test_relative_imports_say_their_folder(tmp_path):
    path, tree = module(tmp_path, "from . import a\nfrom ..b import c")
    assert source.imports(path, tree, tree) == {(tmp_path, "a"), (tmp_path.parent, "b.c")}


def test_files_are_those_of_a_module_and_of_its_packages():
    def names(name):
        return [str(p.relative_to(PACKAGE.parent)) for p in source.files(PACKAGE.parent, name)]

    inits = ["lora_theory/__init__.py", "lora_theory/train/__init__.py"]
    assert names("lora_theory.train.sweep") == [*inits, "lora_theory/train/sweep.py"]
    assert names("lora_theory.train.sweep.sweep_cells") == names("lora_theory.train.sweep")
    assert "lora_theory/train/coordinates.py" in names("lora_theory.coordinate_check")  # Lazy.
    assert names("numpy.linalg") == []
    assert source.home("lora_theory") == PACKAGE.parent
    assert source.packages(PACKAGE / "train")[0] == PACKAGE / "train/__init__.py"
    assert source.name_of(PACKAGE / "train/sweep.py") == "lora_theory.train.sweep"


def test_of_a_table_only_the_entries_that_are_named_are_left(tmp_path):
    _, tree = module(tmp_path, "T: dict = {'a': 1, 'b': 2, **more}\nU = {'a': 1}")
    left = ast.unparse(source.only(tree, {"T": ["a"]}))
    assert "'b'" not in left
    assert "**more" in left
    assert left.endswith("U = {'a': 1}")
    assert "'b'" in ast.unparse(tree)
