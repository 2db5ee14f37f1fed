"""The digest moves with the code that methods of a class run, and with no other."""

import importlib
import sys
import textwrap

import pytest

from lora_theory.store import source
from lora_theory.store.code import code_digest

FILES = {
    "study.py": '''
        """A study."""
        import functools
        import typing
        from typing import TYPE_CHECKING

        import package
        import shared
        from all_of import *
        from base import Base
        from lab.skeleton import Skeleton
        from shared import used_by_report
        from table import TABLE

        if typing.TYPE_CHECKING:
            import for_checkers
        else:
            CHECKED = 1
        if TYPE_CHECKING:
            import for_checkers

        FACTOR = 2.0
        FACTOR += 0.5
        BASE = 1
        by_two = 2
        if FACTOR:
            LIMIT = 40
        try:
            import fast
        except ImportError:
            fast = None
        for i in range(50):
            pass
        patch(60)

        def doubled(function):
            return functools.partial(function, by_two)

        class Item:
            def weigh(self):
                return 30

        class Other(Skeleton):
            def run(self, x):
                return 80

        class Study(Base, Skeleton):
            """Docs."""
            scale = 3
            made_of = BASE
            third = 7
            fourth = third

            def __init__(self):
                self.made = 5

            def start(self, cfg):
                started(1)

            @doubled
            def run(self, x: int) -> float:
                """Docs."""
                x.weigh() + x.more_of_it + x.of_group()
                self.scale + self.made_of + self.fourth + self.inherited(x) + later() + TABLE["a"]
                package.late.LATE + CHECKED
                return helper(x) + self.more(x)

            def overridden(self, x):
                return x + 9

            def more(self, x):
                from package.deep import inner  # only when it is run
                return inner(x)

            def report(self, x):
                return used_by_report(x)

        def helper(x):
            # a comment
            return FACTOR * shared.used(x)

        def unused(x):
            return x

        async def later():
            return 70

        if __name__ == "__main__":
            main(90)
        ''',
    "base.py": """
        TEN = 10

        class Base:
            def inherited(self, x):
                return 10 * x + self.overridden(x) + TEN
        """,
    "schema.py": """
        import groups

        class Config:
            group = groups.Group

            @property
            def more_of_it(self):
                return self.size + 1
        """,
    "groups.py": """
        class Group:
            def of_group(self):
                return 20
        """,
    "all_of.py": "EVERY = 1",
    "table.py": """
        TABLE = {"a": "late_a:A", "b": "late_b:B"}
        """,
    "late_a.py": "A = 1",
    "late_b.py": "B = 1",
    "lab/__init__.py": "",
    "lab/skeleton.py": """
        class Skeleton:
            def inherited(self, x):
                return 1
        """,
    "package/late.py": "LATE = 1",
    "package/deep/side.py": "SIDE = 1",
    "shared.py": """
        def used(x):
            return x

        def used_by_report(x):
            return x
        """,
    "package/__init__.py": "INIT = 1",
    "package/deep/__init__.py": """
        from package.deep.deeper import inner
        from . import side
        """,
    "package/deep/deeper.py": """
        def inner(x, by=3):
            return by * x
        """,
    "aside.py": """
        VALUE = 1
        """,
}


OURS = {name.partition("/")[0].removesuffix(".py") for name in FILES}


def forget():
    for cached in (source.module, source.files, source.packages, source.name_of):
        cached.cache_clear()
    for module in [m for m in sys.modules if m.partition(".")[0] in OURS]:
        del sys.modules[module]
    importlib.invalidate_caches()


@pytest.fixture(autouse=True)
def others():
    """Modules of the same names that other tests use are put back."""
    before = {m: found for m, found in sys.modules.items() if m.partition(".")[0] in OURS}
    yield
    sys.modules.update(before)


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """Writes the files, changed, and digests `Study` in them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("builtins.patch", lambda value: None, raising=False)

    def write(changes=()):
        for name, text in FILES.items():
            text = textwrap.dedent(text).lstrip()
            for file, old, new in changes:
                if file == name:
                    assert old in text
                    text = text.replace(old, new)
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        forget()
        study, schema, groups = map(importlib.import_module, ("study", "schema", "groups"))
        return code_digest(
            study.Study,
            ["run", "start", "__init__"],
            records=[schema.Config, groups.Group],
            tables={"table:TABLE": ["a"]},
            outside="lab",
        )

    yield write
    forget()


MOVES = {
    "the function": ("study.py", "helper(x) +", "helper(x) -"),
    "what it calls": ("study.py", "FACTOR * shared", "shared"),
    "a constant that this uses": ("study.py", "FACTOR = 2.0", "FACTOR = 3.0"),
    "a method that it calls": ("study.py", "return inner(x)", "return -inner(x)"),
    "a module that it imports": (
        "shared.py",
        "def used(x):\n    return x",
        "def used(x): return 0",
    ),
    "a sub-package imported when run": ("package/deep/deeper.py", "by * x", "by + x"),
    "a default value": ("package/deep/deeper.py", "by=3", "by=4"),
    "a constant of the class": ("study.py", "scale = 3", "scale = 4"),
    "what a constant of the class is made of": ("study.py", "BASE = 1", "BASE = 2"),
    "a name that a class takes from itself": ("study.py", "third = 7", "third = 8"),
    "what starts": ("study.py", "started(1)", "started(2)"),
    "what is made with the class": ("study.py", "self.made = 5", "self.made = 6"),
    "a decorator": ("study.py", "by_two = 2", "by_two = 4"),
    "a method of a base in another module": ("base.py", "return 10 * x", "return 11 * x"),
    "what a base's method names in its module": ("base.py", "TEN = 10", "TEN = 12"),
    "a method that a base's calls and the class overrides": ("study.py", "x + 9", "x + 8"),
    "a property of the config": ("schema.py", "return self.size + 1", "return self.size + 2"),
    "a method of a group of the config": ("groups.py", "return 20", "return 21"),
    "a method of a class that pieces are of": ("study.py", "return 30", "return 31"),
    "what always runs: if": ("study.py", "LIMIT = 40", "LIMIT = 41"),
    "what always runs: try": ("study.py", "import fast", "import faster"),
    "what always runs: for": ("study.py", "range(50)", "range(51)"),
    "what always runs: a call": ("study.py", "patch(60)", "patch(61)"),
    "what always runs: an assignment that adds": ("study.py", "FACTOR += 0.5", "FACTOR += 0.6"),
    "the other branch of what only checkers read": ("study.py", "CHECKED = 1", "CHECKED = 2"),
    "an asynchronous function": ("study.py", "return 70", "return 71"),
    "a module of which everything is taken": ("all_of.py", "EVERY = 1", "EVERY = 2"),
    "a package in which an imported module lies": ("package/__init__.py", "INIT = 1", "INIT = 2"),
    "a relative import": ("package/deep/side.py", "SIDE = 1", "SIDE = 2"),
    "a name taken from an imported package": ("package/late.py", "LATE = 1", "LATE = 2"),
    "an entry of a table that is used": ("table.py", '"a": "late_a:A"', '"a": "late_b:A"'),
    "what an entry names": ("late_a.py", "A = 1", "A = 2"),
}
STAYS = {
    "a comment": ("study.py", "# a comment", "# another"),
    "a docstring": ("study.py", '"""Docs."""', '"""Other words."""'),
    "a module's docstring": ("study.py", '"""A study."""', ""),
    "an annotation": ("study.py", "x: int", "x: float"),
    "what draws": ("study.py", "return used_by_report(x)", "return None"),
    "what nobody calls": ("study.py", "def unused(x):\n    return x", ""),
    "a module that it does not import": ("aside.py", "VALUE = 1", "VALUE = 2"),
    "another experiment beside it": ("study.py", "return 80", "return 81"),
    "what only checkers read": ("study.py", "import for_checkers", "import for_others"),
    "what only the program does": ("study.py", "main(90)", "main(91)"),
    "an entry of a table that is not used": ("table.py", '"b": "late_b:B"', '"b": "late_a:B"'),
    "a line for something new in a table": ("table.py", '"b":', '"c": "late_c:C", "b":'),
    "what a package outside does": ("lab/skeleton.py", "return 1", "return 2"),
    "white space": ("study.py", "FACTOR = 2.0", "FACTOR   =   2.0"),
}


@pytest.mark.parametrize("change", MOVES)
def test_code_that_computes_moves_the_digest(change, digest):
    assert digest([MOVES[change]]) != digest()


@pytest.mark.parametrize("change", STAYS)
def test_what_does_not_compute_leaves_the_digest(change, digest):
    assert digest([STAYS[change]]) == digest()


def test_a_script_in_a_package_finds_what_stands_beside_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "package" / "inner"
    folder.mkdir(parents=True)
    (tmp_path / "package" / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("")
    script = "from .. import near\nfrom package.inner.far import far\n"
    script += "class Study:\n    def run(self): return near.near(far)\n"
    (folder / "script.py").write_text(script)

    def written(near, far):
        (tmp_path / "package" / "near.py").write_text(f"def near(x): return {near}")
        (folder / "far.py").write_text(f"far = {far}")
        forget()
        study = importlib.import_module("package.inner.script").Study
        return code_digest(study, ["run"])

    assert len({written(1, 1), written(2, 1), written(1, 2)}) == 3
    forget()


def test_a_class_without_a_file_is_a_mistake():
    with pytest.raises(TypeError, match="int must stand in a file"):
        code_digest(int, ["run"])


@pytest.fixture
def reached(monkeypatch):
    """Files of this project whose source counts for methods of a class."""

    def look(kind, *entries):
        files = []
        original = source.module
        with monkeypatch.context() as patch:
            patch.setattr(source, "module", lambda p: files.append(p) or original(p))
            code_digest(kind, entries, records=[kind.schema], outside="experiments.lab")
        return {"/".join(path.parts[-2:]) for path in files}

    return look


def test_a_digest_of_figure_2_covers_the_engine_and_what_the_registry_names(reached):
    from experiments.fig2 import Fig2

    files = reached(Fig2, "run", "start")
    assert files >= {
        "experiments/fig2.py", "experiments/registry.py", "train/sweep.py", "train/devices.py",
        "lora_theory/keys.py", "models/toys.py", "models/relu_readout.py", "adapters/layer.py",
        "adapters/lora_plus.py", "data/synthetic.py",
    }  # fmt: skip
    assert not files & {"plots/landscapes.py", "plots/style.py", "stats/landscapes.py",
                        "store/dataset.py", "claims/judge.py"}  # fmt: skip


def test_a_digest_of_the_claims_covers_what_measures_and_not_what_judges(reached):
    from experiments.claims.experiment import Claims

    files = reached(Claims, "run", "start")
    assert files >= {"claims/settings.py", "train/coordinates.py", "exact/scalar_map.py",
                     "exact/phases.py", "models/toys.py", "claims/exact.py", "claims/vectors.py",
                     "claims/reduction.py", "exact/layer_map.py", "exact/two_layer_limit.py",
                     "exact/escape.py"}  # fmt: skip
    assert not files & {"claims/judge.py", "claims/report.py", "claims/saved.py",
                        "plots/theory.py"}  # fmt: skip
    assert {"claims/judge.py", "claims/layer.py"} <= reached(Claims, "run", "start", "keep")
