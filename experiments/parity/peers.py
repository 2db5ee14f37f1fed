"""The side of PyTorch: a model of its own, adapted by PEFT, trained by PEFT's optimizer.

It needs the extra `peers`; nothing else of the project imports it.
"""

import importlib.metadata
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch import nn
from torch.nn import functional

from experiments.parity import setting
from experiments.parity.setting import Run, Told

# What PEFT writes around the names of parameters.
_AROUND = re.compile(
    r"^base_model\.model\.|\.base_layer|\.original_module|\.modules_to_save|\.default"
)


def versions() -> dict[str, str]:
    """Of the libraries that decide; of transformers because its list of LayerNorms does."""
    return {name: importlib.metadata.version(name) for name in ("torch", "peft", "transformers")}


class Attention(nn.Module):
    """Every token reads all tokens."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.heads = heads

    def forward(self, x: Any) -> Any:
        """Shape (N, L, n)."""
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        read = functional.scaled_dot_product_attention(q, k, v)
        return self.out(read.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a LayerNorm."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention = Attention(width, heads)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.norms = nn.ModuleList(nn.LayerNorm(width, setting.NORM_EPSILON) for _ in range(2))

    def forward(self, x: Any) -> Any:
        """Shape (N, L, n)."""
        x = x + self.attention(self.norms[0](x))
        return x + self.down(torch.relu(self.up(self.norms[1](x))))


class Net(nn.Module):
    """The model of `ours`, written anew."""

    def __init__(self) -> None:
        super().__init__()
        s = setting
        self.embed, self.place = nn.Embedding(s.TOKENS, s.WIDTH), nn.Embedding(s.LENGTH, s.WIDTH)
        self.blocks = nn.ModuleList(Block(s.WIDTH, s.HEADS) for _ in range(s.BLOCKS))
        self.norm = nn.RMSNorm(s.WIDTH, s.NORM_EPSILON)
        self.head = nn.Linear(s.WIDTH, s.ANSWERS)

    def forward(self, tokens: Any) -> Any:
        """Logits, shape (N, answers)."""
        x = self.embed(tokens) + self.place.weight
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, -1]))


def network() -> Any:
    """The model with its weights, adapters on query, value and embedding; norms and head train."""
    config = LoraConfig(
        r=setting.RANK,
        lora_alpha=setting.RANK,
        target_modules=["query", "value", "embed"],
        modules_to_save=["norms.0", "norms.1", "norm", "head"],
    )
    model = get_peft_model(Net(), config).double()
    given, used = setting.weights(), set()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            plain = _AROUND.sub("", name)
            parameter.copy_(torch.from_numpy(given[plain]))
            used.add(plain)
    assert used == set(given)
    return model


def optimizer(model: nn.Module, told: Told, *, official: bool = True) -> torch.optim.Optimizer:
    """PEFT's LoRA+, or AdamW of one group.

    Raises:
        ValueError: something that they can not do.
    """
    same: dict[str, Any] = {"betas": (told.beta1, told.beta2), "eps": told.epsilon}
    if official:
        if told.exempt is not None:
            raise ValueError(f"exempt: must be None in the official optimizer (got {told.exempt})")
        return create_loraplus_optimizer(
            model,
            torch.optim.AdamW,
            lr=told.rate,
            loraplus_lr_ratio=told.ratio,
            loraplus_lr_embedding=told.embedding,
            loraplus_weight_decay=told.decay,
            **same,
        )
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, lr=told.rate, weight_decay=told.decay, **same)


def train(told: Told) -> Run:
    """All steps; at λ = 1 those of AdamW without PEFT's groups."""
    torch.set_num_threads(1)  # Arrays are small.
    model = network()
    start = _trained(model)
    steps = optimizer(model, told, official=told.ratio != 1)
    falling = torch.optim.lr_scheduler.LambdaLR(
        steps, lambda step: 1 - told.fall * step / setting.STEPS
    )
    losses = []
    for tokens, answers in zip(*map(torch.from_numpy, setting.batches()), strict=True):
        loss = functional.cross_entropy(model(tokens), answers)
        steps.zero_grad()
        loss.backward()
        steps.step()
        falling.step()
        losses.append(loss.item())
    end = _trained(model)
    return Run(np.array(losses), {name: (end[name] - start[name]).norm().item() for name in end})


def _trained(model: nn.Module) -> dict[str, Any]:
    return {
        _AROUND.sub("", name): parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


class SimpleNet(nn.Module):
    """The layers of the network in PEFT's own tests of LoRA+, and norms of other kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 20)
        self.layer_norm = nn.LayerNorm(20)
        self.lin0 = nn.Linear(20, 20)
        self.lin1 = nn.Linear(20, 16)
        self.rms_norm = nn.RMSNorm(16)
        self.group_norm = nn.GroupNorm(4, 16)
        self.final_norm = nn.LayerNorm(16, bias=False)


def nets() -> Iterator[tuple[str, nn.Module]]:
    """Adapted networks by name: that of PEFT's own test, then what else its groups tell apart."""
    both: dict[str, Any] = {"target_modules": ["embedding", "lin0"]}
    one: dict[str, Any] = {"target_modules": ["lin0"]}
    saved = {"modules_to_save": ["layer_norm", "lin1", "rms_norm"]}
    yield "PEFT's test", get_peft_model(SimpleNet(), LoraConfig(**both))
    yield "DoRA", get_peft_model(SimpleNet(), LoraConfig(**both, use_dora=True))
    yield "all biases", get_peft_model(SimpleNet(), LoraConfig(**both, bias="all"))
    yield "bias of B", get_peft_model(SimpleNet(), LoraConfig(**one, lora_bias=True))
    yield "whole modules", get_peft_model(SimpleNet(), LoraConfig(**both, **saved))
    everything = get_peft_model(SimpleNet(), LoraConfig(**both))
    yield "everything", everything.requires_grad_(True)


def groups(model: nn.Module) -> list[list[Any]]:
    """Name, shape, rate and weight decay of every parameter that PEFT's optimizer trains."""
    told = setting.LORA_PLUS
    names = {parameter: name for name, parameter in model.named_parameters()}
    return sorted(
        [names[parameter], list(parameter.shape), group["lr"], group["weight_decay"]]
        for group in optimizer(model, told).param_groups
        for parameter in group["params"]
    )
