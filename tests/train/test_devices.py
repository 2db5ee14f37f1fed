"""Policies, device counts, pinned settings."""

import os

import jax
import pytest

from lora_theory.train.devices import Policy, pin_numerics, resolve_policy, start_devices


@pytest.mark.parametrize("width", [1, 10, 100, 1000, 10_000])
@pytest.mark.parametrize("samples", [2, 100, 1100, 100_000])
@pytest.mark.parametrize("name", ["cores", "batch"])
def test_default_policies_are_sensible(width, samples, name):
    policy = resolve_policy(width, samples, name=name)
    assert policy.micro_batch >= 1
    assert 1 <= policy.sample_block <= samples
    assert policy.precision == "highest"
    if name == "batch":
        assert policy.sample_block == samples


@pytest.mark.parametrize("gate", [True, False])
def test_chosen_values_override_the_defaults(gate):
    policy = resolve_policy(100, 1100, name="cores", micro_batch=3, sample_block=7, gate=gate)
    assert policy == Policy("cores", 3, 7)


def test_without_a_gate_all_samples_are_one_pass_at_any_width():
    for width in (64, 4096):
        assert resolve_policy(width, 256, name="cores", gate=False) == Policy("cores", 16, 256)
    gated = resolve_policy(4096, 256, name="cores")  # Control: a gate is cut to fit a cache.
    assert gated.sample_block < 256
    assert resolve_policy(64, 256, name="batch", gate=False) == resolve_policy(
        64, 256, name="batch"
    )


@pytest.mark.parametrize("count", [0, -1, 99])
def test_impossible_device_counts_are_refused(count):
    with pytest.raises(ValueError, match="devices: must be at"):
        start_devices(count)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("jax_debug_nans", True),
        ("jax_debug_infs", True),
        ("jax_default_prng_impl", "rbg"),
        ("jax_threefry_partitionable", False),
        ("jax_random_seed_offset", 1),
        ("jax_disable_jit", True),
        ("jax_disable_most_optimizations", True),
        ("jax_optimization_level", "O0"),
        ("jax_default_matmul_precision", "bfloat16"),
        ("jax_numpy_dtype_promotion", "strict"),
        ("jax_default_device", "cpu"),
    ],
)
def test_settings_that_change_results_are_pinned(name, wrong):
    before = jax.config.values[name]
    jax.config.update(name, wrong)
    try:
        assert jax.config.values[name] == wrong
        pin_numerics()
        assert jax.config.values[name] == before
    finally:
        jax.config.update(name, before)


@pytest.mark.parametrize("flag", ["--xla_gpu_deterministic_ops", "--xla_dump_to=a"])
@pytest.mark.parametrize("chosen", ["=true", "=false"])
def test_a_gpu_always_takes_the_same_kernel_unless_the_user_says_otherwise(
    flag, chosen, monkeypatch
):
    ours = flag.startswith("--xla_gpu")
    given = flag + chosen if ours else flag
    monkeypatch.setenv("XLA_FLAGS", given)
    for _ in range(2):
        pin_numerics()
        wanted = given if ours else f"{given} --xla_gpu_deterministic_ops=true"
        assert os.environ["XLA_FLAGS"] == wanted
    monkeypatch.delenv("XLA_FLAGS")
    pin_numerics()
    assert os.environ["XLA_FLAGS"] == "--xla_gpu_deterministic_ops=true"


@pytest.mark.parametrize("name", ["cores", "batch"])
def test_no_pass_has_more_samples_than_there_are(name):
    assert resolve_policy(8, 30, name=name, micro_batch=2, sample_block=31).sample_block == 30
