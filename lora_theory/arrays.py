"""Array types and the one glossary of symbols and dimension letters.

Samples are columns, as in the paper: a layer maps Z (n, N) to W Z (n, N).

Dimensions
    n   width: coordinates of Z, the input of the LoRA layer
    m   coordinates of the LoRA layer's output (n in the two-layer toy, 1 in the linear one)
    d   coordinates of the model's input x
    r   LoRA rank
    L   tokens of a sequence; sequences come samples first, (N, L)
    N   samples (training and test samples side by side in the engine)
    G   cells of a grid of rates; T steps, so T + 1 losses from t = 0 on

Symbols
    A (r, n), B (m, r)   the trained factors of W = W* + α r^−γ · B A
    Z = φ(W_in X)        features: the frozen part of the model, the same at every step
    Z_A = A Z, Z_B = B A Z   the LoRA features (Definition 2)
    η_A, η_B             learning rates of A and B; λ = η_B / η_A
    f, y, U = f − y      output, target, residual
"""

from jax import Array
from jaxtyping import Bool, Float, Int, Key

Scalar = Float[Array, ""]
Rate = float | int | Float[Array, ""]
Features = Float[Array, "n N"]
Inputs = Float[Array, "d N"]
Outputs = Float[Array, "N"]
PRNGKey = Key[Array, ""]

__all__ = [
    "Array",
    "Bool",
    "Features",
    "Float",
    "Inputs",
    "Int",
    "Key",
    "Outputs",
    "PRNGKey",
    "Rate",
    "Scalar",
]
