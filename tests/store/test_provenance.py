"""Provenance: the digest moves with the code that a function runs, and with no other."""

import importlib
import sys
import textwrap

import pytest

from lora_theory.store import provenance
from lora_theory.store.provenance import Provenance, code_digest, difference, library_versions

FILES = {
    "study.py": '''
        """A study."""
        import shared
        from shared import used_by_report

        FACTOR = 2.0

        class Study:
            """Docs."""

            def run(self, x: int) -> float:
                """Docs."""
                return helper(x) + self.more(x)

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
        ''',
    "shared.py": """
        def used(x):
            return x

        def used_by_report(x):
            return x
        """,
    "package/__init__.py": "",
    "package/deep/__init__.py": """
        from package.deep.deeper import inner
        """,
    "package/deep/deeper.py": """
        def inner(x, by=3):
            return by * x
        """,
    "aside.py": """
        VALUE = 1
        """,
}


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """Writes the files, changed, and digests `Study.run` in them."""
    monkeypatch.syspath_prepend(str(tmp_path))

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
        for cached in (provenance._module, provenance._files, provenance._lazy):
            cached.cache_clear()
        for module in [m for m in sys.modules if m.partition(".")[0] in ("study", "shared")]:
            del sys.modules[module]
        importlib.invalidate_caches()
        return code_digest(importlib.import_module("study").Study.run)

    yield write
    for cached in (provenance._module, provenance._files, provenance._lazy):
        cached.cache_clear()
    sys.modules.pop("study", None)
    sys.modules.pop("shared", None)


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
}
STAYS = {
    "a comment": ("study.py", "# a comment", "# another"),
    "a docstring": ("study.py", '"""Docs."""', '"""Other words."""'),
    "a module's docstring": ("study.py", '"""A study."""', ""),
    "an annotation": ("study.py", "x: int", "x: float"),
    "what draws": ("study.py", "return used_by_report(x)", "return None"),
    "what nobody calls": ("study.py", "def unused(x):\n    return x", ""),
    "a module that it does not import": ("aside.py", "VALUE = 1", "VALUE = 2"),
    "white space": ("study.py", "FACTOR = 2.0", "FACTOR   =   2.0"),
}


@pytest.mark.parametrize("change", MOVES)
def test_code_that_computes_moves_the_digest(change, digest):
    assert digest([MOVES[change]]) != digest()


@pytest.mark.parametrize("change", STAYS)
def test_what_does_not_compute_leaves_the_digest(change, digest):
    assert digest([STAYS[change]]) == digest()


@pytest.fixture
def reached(monkeypatch):
    """Files of this project whose source counts for a function."""

    def look(run):
        files = []
        original = provenance._module
        with monkeypatch.context() as patch:
            patch.setattr(provenance, "_module", lambda p: files.append(p) or original(p))
            code_digest(run)
        return {"/".join(path.parts[-2:]) for path in files}

    return look


def test_a_digest_of_figure_2_covers_the_engine_and_what_the_registry_names(reached):
    from experiments.fig2 import Fig2

    files = reached(Fig2.run)
    assert files >= {
        "experiments/fig2.py", "experiments/registry.py", "train/sweep.py", "train/devices.py",
        "train/keys.py", "models/toys.py", "models/relu_readout.py", "adapters/layer.py",
        "adapters/lora_plus.py", "data/synthetic.py",
    }  # fmt: skip
    assert not files & {"plots/landscapes.py", "plots/style.py", "stats/landscapes.py",
                        "store/dataset.py", "claims/judge.py"}  # fmt: skip


def test_a_digest_of_the_claims_covers_what_measures_and_not_what_judges(reached):
    from experiments.claims.experiment import Claims

    files = reached(Claims.run)
    assert files >= {"claims/settings.py", "train/coordinates.py", "exact/scalar_map.py",
                     "exact/phases.py", "models/toys.py"}  # fmt: skip
    assert not files & {"claims/judge.py", "claims/report.py", "plots/theory.py"}


def test_the_first_difference_is_named():
    asked = {"a": {"b": [1, 2], "c": 3.0}, "d": None}
    assert difference(asked, asked | {"more": 1}) is None
    assert difference(asked, {"a": {"b": [1, 3], "c": 3.0}, "d": None}) == ("a.b", [1, 2], [1, 3])
    assert difference(asked, {"a": {"b": [1, 2], "c": 3.0}}) == ("d", None, "missing")
    assert difference(asked, {"a": 3, "d": None}) == ("a.b", [1, 2], "missing")


def test_the_digest_names_all_three():
    base = Provenance({"seeds": 3}, {"jax": "0.10"}, "a")
    others = [
        base._replace(config={"seeds": 4}),
        base._replace(versions={"jax": "0.11"}),
        base._replace(code="b"),
    ]
    assert len({p.digest for p in (base, *others)}) == 4
    assert Provenance({"seeds": 3}, {"jax": "0.10"}, "a").digest == base.digest
    for other in others:
        assert base.difference(other) is not None


def test_versions_are_of_what_rounds_and_nothing_is_started(environment):
    import subprocess

    assert set(library_versions()) == {"python", "jax", "jaxlib", "flax", "optax", "numpy", "scipy"}
    probe = (
        "import sys; from lora_theory.store.provenance import library_versions, code_digest\n"
        "from experiments.fig2 import Fig2\n"
        "library_versions(), code_digest(Fig2.run); print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
