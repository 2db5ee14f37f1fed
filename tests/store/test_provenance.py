"""Provenance: three things decide a result, and the first that differs is named."""

import subprocess
import sys

import pytest

from lora_theory.store.provenance import Provenance, difference, library_versions


def test_the_first_difference_is_named():
    asked = {"a": {"b": [1, 2], "c": 3.0}, "d": None}
    assert difference(asked, dict(asked)) is None
    assert difference(asked, asked | {"more": 1}) == ("more", "missing", 1)
    assert difference(asked, asked | {"a": asked["a"] | {"e": 4}}) == ("a.e", "missing", 4)
    assert difference(asked, {"a": {"b": [1, 3], "c": 3.0}, "d": None}) == ("a.b", [1, 2], [1, 3])
    assert difference(asked, {"a": {"b": [1, 2], "c": 3.0}}) == ("d", None, "missing")
    assert difference(asked, {"a": 3, "d": None}) == ("a", asked["a"], 3)


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


def test_versions_are_of_what_rounds_and_nothing_is_started(environment, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert set(library_versions()) == {"python", "jax", "jaxlib", "flax", "optax", "numpy", "scipy"}
    probe = (
        "import sys; from lora_theory.store.provenance import library_versions\n"
        "from lora_theory.store.code import code_digest\n"
        "from experiments.fig2 import Fig2\n"
        "library_versions(), code_digest(Fig2, ['run']); print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("flags", "recorded"),
    [
        ("", None),
        ("--xla_force_host_platform_device_count=8 --xla_dump_to=a", None),
        ("--xla_gpu_deterministic_ops=true", None),
        ("--xla_gpu_deterministic_ops=false", "--xla_gpu_deterministic_ops=false"),
        (
            "--xla_cpu_enable_fast_math=true  --xla_force_host_platform_device_count=8 "
            "--xla_backend_optimization_level=0",
            "--xla_backend_optimization_level=0 --xla_cpu_enable_fast_math=true",
        ),
    ],
)
def test_flags_of_xla_that_round_are_recorded_where_they_are_set(flags, recorded, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    plain = library_versions()
    monkeypatch.setenv("XLA_FLAGS", flags)
    found = library_versions()
    assert found == plain | ({} if recorded is None else {"XLA_FLAGS": recorded})
    same = Provenance({}, found, "a").digest == Provenance({}, plain, "a").digest
    assert same is (recorded is None)  # What a plain environment saved is resumed as before.
