"""LoRA+ in tunix's PeftTrainer: training, its log of the learning rate, and its checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import qwix
from flax import nnx
from tunix.models.llama3 import model as llama
from tunix.sft import metrics_logger, peft_trainer

from lora_theory import lora_plus

ETA, RATIO = 1e-3, 16.0
TOKENS = jax.random.randint(jax.random.key(0), (4, 9), 0, 20)
BATCH = peft_trainer.TrainingInput(input_tokens=TOKENS, input_mask=jnp.ones_like(TOKENS))


def adapted():
    config = llama.ModelConfig(
        num_layers=2, vocab_size=20, embed_dim=12, hidden_dim=14, num_heads=3, head_dim=4,
        num_kv_heads=1, rope_theta=10_000, norm_eps=1e-6,
    )  # fmt: skip
    base = llama.Llama3(config, rngs=nnx.Rngs(0))
    provider = qwix.LoraProvider(module_path=".*_proj", rank=4, alpha=8.0)
    return qwix.apply_lora_to_model(base, provider, **base.get_model_input(), rngs=nnx.Rngs(1))


def model_input(batch):
    length = batch.input_tokens.shape[1]
    causal = jnp.tril(jnp.ones((length, length), bool))
    return {
        "input_tokens": batch.input_tokens,
        "input_mask": batch.input_mask,
        "positions": jnp.broadcast_to(jnp.arange(length), batch.input_tokens.shape),
        "attention_mask": jnp.broadcast_to(causal, (len(batch.input_tokens), length, length)),
    }


def train(tx, steps=6, *, folder=None, accumulated=None):
    """A trainer after `steps` steps on one batch."""
    config = peft_trainer.TrainingConfig(
        eval_every_n_steps=100,
        max_steps=steps,
        gradient_accumulation_steps=accumulated,
        checkpoint_root_directory=folder and str(folder),
    )
    trainer = peft_trainer.PeftTrainer(adapted(), tx, config)
    trainer.with_gen_model_input_fn(model_input).train([BATCH] * steps * (accumulated or 1))
    return trainer


def logged(trainer, name):
    return trainer.metrics_logger.get_metric_history("", name, metrics_logger.Mode.TRAIN)


@pytest.mark.parametrize("accumulated", [None, 2])
def test_it_trains_and_logs_eta_a(accumulated, same_bits):
    trainer = train(lora_plus(ETA, ratio=RATIO), 40, accumulated=accumulated)
    losses = logged(trainer, "loss")
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(logged(trainer, "learning_rate"), ETA, rtol=1e-6)
    frozen = nnx.Not(nnx.LoRAParam)
    same_bits(nnx.state(trainer.model, frozen), nnx.state(adapted(), frozen))


def test_it_logs_a_schedule():
    trainer = train(lora_plus(optax.linear_schedule(ETA, 0.0, 10), ratio=RATIO))
    rates = logged(trainer, "learning_rate")
    # The trainer writes the metrics of a step one step later, beside the rate of then.
    np.testing.assert_allclose(rates, ETA * np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.5]), rtol=1e-5)


def test_after_clipping_it_trains_and_its_rate_is_not_found():
    """The trainer stops at the first part of a chain without a state, whatever comes after."""
    trainer = train(optax.chain(optax.clip_by_global_norm(1.0), lora_plus(ETA, ratio=RATIO)))
    assert logged(trainer, "loss")[-1] < logged(trainer, "loss")[0]
    assert not trainer.metrics_logger.metric_exists("", "learning_rate", metrics_logger.Mode.TRAIN)


def test_a_resumed_run_has_the_same_bits(tmp_path, same_bits):
    tx = lora_plus(optax.linear_schedule(ETA, 0.0, 10), ratio=RATIO)
    straight = train(tx, 6)
    train(tx, 3, folder=tmp_path)
    resumed = train(tx, 6, folder=tmp_path)
    assert resumed.train_steps == 6
    for part in ("model", "optimizer"):
        same_bits(nnx.state(getattr(resumed, part)), nnx.state(getattr(straight, part)))


def test_another_ratio_trains_otherwise(same_bits):
    plus, plain = (train(lora_plus(ETA, ratio=ratio)) for ratio in (RATIO, 1.0))
    with pytest.raises(AssertionError):
        same_bits(nnx.state(plus.model, nnx.LoRAParam), nnx.state(plain.model, nnx.LoRAParam))
