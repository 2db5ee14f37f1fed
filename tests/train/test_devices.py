"""Policies, device counts, pinned settings."""

import os

import jax
import pytest

from lora_theory.train import devices
from lora_theory.train.devices import (
    Policy,
    free_batch_bytes,
    halved,
    pin_numerics,
    resolve_policy,
    start_devices,
)


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


class Said:
    """A device that says of its memory what it is told to."""

    def __init__(self, said):
        self.said = said

    def memory_stats(self):
        return self.said


@pytest.mark.parametrize(
    ("said", "bytes"),
    [
        (None, 2**31),
        ({}, 2**31),
        ({"bytes_in_use": 5}, 2**31),
        ({"bytes_limit": 2**36}, 2**35),
        ({"bytes_limit": 2**36, "bytes_in_use": 0}, 2**35),
        ({"bytes_limit": 2**36, "bytes_in_use": 1}, 2**34),
        ({"bytes_limit": 60 * 10**9, "bytes_in_use": 10**9}, 2**34),
        ({"bytes_limit": 60 * 10**9, "bytes_in_use": 2 * 10**9}, 2**34),
        ({"bytes_limit": 10, "bytes_in_use": 10}, 1),
    ],
)
def test_a_batch_is_half_of_what_is_free_in_a_power_of_2(said, bytes, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: [Said(said)])
    assert free_batch_bytes.__wrapped__() == bytes


def test_free_memory_is_asked_for_once(monkeypatch):
    first = free_batch_bytes()
    monkeypatch.setattr(jax, "local_devices", lambda: [Said({"bytes_limit": 2**40})])
    assert free_batch_bytes.__wrapped__() == 2**39 != first
    assert free_batch_bytes() == first


@pytest.mark.parametrize("width", [100, 1000, 4096])
def test_a_micro_batch_follows_from_the_batchs_bytes(width, monkeypatch):
    given = {k: resolve_policy(width, 1100, name="batch", batch_bytes=2**k) for k in range(20, 40)}
    for k, policy in given.items():
        assert policy.micro_batch == max(1, min(1024, 2**k // (16 * width * 1100)))
        assert policy == resolve_policy(width, 1100, name="batch", batch_bytes=2**k)
    monkeypatch.setattr(devices, "free_batch_bytes", lambda: 2**33)
    assert resolve_policy(width, 1100, name="batch") == given[33]
    # One that is given is never more than it says, whatever there is room for.
    assert resolve_policy(width, 1100, name="batch", micro_batch=3).micro_batch == 3
    cores = resolve_policy(width, 1100, name="cores")
    assert resolve_policy(width, 1100, name="cores", batch_bytes=1) == cores


def test_a_policy_is_halved_until_one_cell_is_left():
    policy, seen = Policy("batch", 1024, 1100), []
    while policy is not None:
        seen.append(policy)
        policy = halved(policy)
    assert [each.micro_batch for each in seen] == [2**k for k in range(10, -1, -1)]
    assert {each._replace(micro_batch=1) for each in seen} == {Policy("batch", 1, 1100)}


def test_devices_are_those_of_this_host(monkeypatch):
    """Of a program on several, `jax.devices` has the others' too."""
    here = jax.local_devices()
    monkeypatch.setattr(jax, "devices", lambda: [*here, *here])
    assert start_devices() == here


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
