"""How long gradient descent of the linear toy stays at its saddle, on the line c_a + c_b = −1.

There f starts at n^c_b (Init[1], c_b < 0) or n^(c_a+1) = n^−c_b (Init[2], c_b > 0), and one step
multiplies it by a factor that does not depend on n: at any fixed t nothing is learned, and after a
number of steps that grows like ln n all is.
"""

import math

from lora_theory import arguments


def growth(product: float, y: float) -> float:
    """By what b and s grow in one step as long as f ≪ y: ρ = 1 + (η_a η_b ‖x‖²)^½ `|y|`.

    With U = −y the map is linear, b' = b + η_b y s and s' = s + η_a ‖x‖² y b, and ρ is its larger
    eigenvalue.

    Args:
        product: η_a η_b ‖x‖² = k_a k_b ‖x‖²/n, on the line.
        y: the target.

    >>> growth(0.25, -1.0)
    1.5
    """
    product = arguments.positive("product", product)
    return 1 + product**0.5 * abs(arguments.finite("y", y))


def steps_per_log(c_b: float, product: float, y: float) -> float:
    """Steps until f = Θ(1), for each unit of ln n: `|c_b|` / (2 ln ρ), since f = b s grows as ρ².

    Args:
        c_b: the exponent of η_b; that of η_a is −1 − c_b.
        product: k_a k_b ‖x‖²/n.
        y: the target, not 0.

    >>> round(steps_per_log(-0.5, 0.25, 1.0) * math.log(2**10), 2)  # To n = 2^10
    4.27
    """
    rate = growth(product, y)
    if rate == 1:
        raise arguments.refusal("y", "a target at which f grows", y)
    return abs(arguments.finite("c_b", c_b)) / (2 * math.log(rate))
