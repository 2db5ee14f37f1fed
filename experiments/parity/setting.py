"""What both sides train: sizes, weights and batches in NumPy, and what the optimizers are told.

Parameters have the names that they have in PyTorch, without what PEFT writes around them.
"""

from typing import NamedTuple

import numpy as np

TOKENS, LENGTH, ANSWERS = 24, 12, 8
WIDTH, HEADS, BLOCKS, RANK = 32, 2, 2, 4
STEPS, BATCH = 100, 16
NORM_EPSILON = 1e-6
TOLERANCE = 1e-5


class Told(NamedTuple):
    """What an optimizer is told.

    Attributes:
        rate: η_A.
        ratio: λ = η_B / η_A.
        embedding: the rate of the adapters of embeddings.
        decay: weight decay.
        exempt: the weight decay of biases and LayerNorms, where they are not left without.
        fall: the share of every rate that is lost until the end, linearly.
        beta1, beta2, epsilon: β₁, β₂ and ε of Adam.
    """

    rate: float = 2e-3
    ratio: float = 16.0
    embedding: float = 1e-6
    decay: float = 0.1
    exempt: float | None = None
    fall: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


class Run(NamedTuple):
    """What a side measures.

    Attributes:
        losses: of each batch, before its step.
        moved: |θ_T − θ_0| of each parameter that is trained, by name.
    """

    losses: np.ndarray
    moved: dict[str, float]


LORA_PLUS = Told()
RUNS = {
    "LoRA+": LORA_PLUS,
    "LoRA+, falling rates": Told(fall=1.0),
    "AdamW, one group": Told(ratio=1.0, embedding=LORA_PLUS.rate, exempt=LORA_PLUS.decay),
}
# Each is wrong in one thing, and so must be told apart from "LoRA+".
CONTROLS = {
    "λ larger by 1 %": LORA_PLUS._replace(ratio=1.01 * LORA_PLUS.ratio),
    "biases and norms decay": LORA_PLUS._replace(exempt=LORA_PLUS.decay),
    "embeddings at η_A": LORA_PLUS._replace(embedding=LORA_PLUS.rate),
    "embeddings stay": LORA_PLUS._replace(embedding=0.0),
    "no decay": LORA_PLUS._replace(decay=0.0),
    "β₂ = 0.99": LORA_PLUS._replace(beta2=0.99),
    "ε = 1e-6": LORA_PLUS._replace(epsilon=1e-6),
}


def weights() -> dict[str, np.ndarray]:
    """Every parameter at the start, in float64; adapters start as PEFT starts them, at zero."""
    shapes: dict[str, tuple[tuple[int, ...], float]] = {
        "embed.weight": ((TOKENS, WIDTH), 1.0),
        "embed.lora_embedding_A": ((RANK, TOKENS), 0.0),
        "embed.lora_embedding_B": ((WIDTH, RANK), 1.0),
        "place.weight": ((LENGTH, WIDTH), 1.0),
        "norm.weight": ((WIDTH,), 0.2),
        "head.weight": ((ANSWERS, WIDTH), WIDTH**-0.5),
        "head.bias": ((ANSWERS,), 0.2),
    }
    for block in (f"blocks.{index}" for index in range(BLOCKS)):
        for name in ("query", "key", "value", "out"):
            shapes[f"{block}.attention.{name}.weight"] = (WIDTH, WIDTH), WIDTH**-0.5
        for name in ("query", "value"):
            shapes[f"{block}.attention.{name}.lora_A.weight"] = (RANK, WIDTH), WIDTH**-0.5
            shapes[f"{block}.attention.{name}.lora_B.weight"] = (WIDTH, RANK), 0.0
        shapes[f"{block}.up.weight"] = (4 * WIDTH, WIDTH), WIDTH**-0.5
        shapes[f"{block}.down.weight"] = (WIDTH, 4 * WIDTH), (4 * WIDTH) ** -0.5
        for norm in ("norms.0", "norms.1"):
            shapes[f"{block}.{norm}.weight"] = (WIDTH,), 0.2
            shapes[f"{block}.{norm}.bias"] = (WIDTH,), 0.2
    random = np.random.default_rng(20240219)
    drawn = {name: std * random.standard_normal(shape) for name, (shape, std) in shapes.items()}
    return {name: a + 1 if _scale(name) else a for name, a in drawn.items()}


def _scale(name: str) -> bool:
    """Whether a parameter multiplies what a norm gives; trained ones are about 1."""
    return "norm" in name and name.endswith("weight")


def batches() -> tuple[np.ndarray, np.ndarray]:
    """Tokens (T, N, L), and answers (T, N): the last token says which."""
    random = np.random.default_rng(20240220)
    tokens = random.integers(TOKENS, size=(STEPS, BATCH, LENGTH))
    return tokens, tokens[:, :, -1] % ANSWERS


def apart(one: Run, other: Run) -> tuple[np.ndarray, float]:
    """|L − L'| / |L'| at every step, and the largest |d − d'| / |d'| of the ways d moved.

    >>> apart(Run(np.array([1.0, 3.0]), {"A": 1.5}), Run(np.array([1.0, 2.0]), {"A": 1.0}))
    (array([0. , 0.5]), 0.5)
    """
    assert one.moved.keys() == other.moved.keys()
    ways = [abs(one.moved[name] - moved) / moved for name, moved in other.moved.items()]
    return np.abs(one.losses - other.losses) / np.abs(other.losses), max(ways)
