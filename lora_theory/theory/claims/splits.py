"""Claims about how B A is split into factors: (B G, G⁻¹ A) trains as (B, A) does, or not.

From both factors random, of full rank, an optimizer has the f_t of any split if a step of B A does
not depend on it: ΔA = −η (BᵀB)⁻¹ g_A becomes G⁻¹ ΔA, since g_A becomes Gᵀ g_A. Without the inverse
that needs G Gᵀ = I; entry by entry, as in Adam, that G has one entry ±1 in each row and column.
"""

from collections.abc import Iterator
from fractions import Fraction

from lora_theory.theory.claims.records import RITE, SCALED, Claim, Split

_LEAST = Fraction(1, 100)  # Of the largest |f|: what differs by less is not claimed to differ.
_BOTH = ("layer", "two_layer")
_ALL = ("scale", "rotation", "general")


def claims() -> Iterator[Claim]:
    """Of named optimizers, each at one rate: those that do not depend on the split, and others."""
    yield from _invariant()
    yield from _dependent()


def _invariant() -> Iterator[Claim]:
    for id_, name, source, near, nearly in (
        (
            "scaled-gd",
            "Scaled gradient descent without damping",
            SCALED,
            "scaled_gd_hardly_damped",
            "a damping of 10^−6",
        ),
        (
            "lora-rite",
            "LoRA-RITE",
            RITE,
            "scaled_adamw",
            "moments of entries in place of those in the partner's basis (scaled AdamW)",
        ),
    ):
        optimizer = id_.replace("-", "_")
        # B starts at 0 and has rank 1, as the gradient of one output has.
        lower = (Split("layer", optimizer, "A", mixing) for mixing in ("scale", "rotation"))
        yield Claim(
            f"invariance-{id_}",
            f"{name}: (B G, G⁻¹ A) trains as (B, A) does, every f_t the same to rounding, for s I, "
            "an orthogonal and a general G, both factors random; for the first two from Init[1] "
            "too, where B has rank 1",
            source,
            (*_of(optimizer, _ALL), *lower),
            "G on B alone; a general G from Init[1], where BᵀB has no inverse; " + nearly,
            (
                *_of(optimizer, ("B alone",)),
                Split("layer", optimizer, "A", "general"),
                *_of(near, ("scale", "general")),
            ),
        )
    yield Claim(
        "invariance-adafactor-scale",
        "Adafactor, whose rate follows the size of each factor: (s B, A/s) trains as (B, A) does, "
        "every f_t the same to rounding, both factors random",
        RITE,
        _of("adafactor", ("scale",)),
        "a factor that starts at 0, whose size is taken for 10^−3; an orthogonal G",
        (Split("layer", "adafactor", "A", "scale"), *_of("adafactor", ("rotation",))),
    )


def _dependent() -> Iterator[Claim]:
    by_entry = "G a signed permutation; an optimizer that does not: LoRA-RITE"
    for id_, name, mixings, wrong, other in (
        (
            "gd",
            "Gradient descent",
            ("scale", "general"),
            "an orthogonal G; an optimizer that does not: scaled gradient descent",
            ("scaled_gd", "general"),
        ),
        (
            "scaled-gd-damped",
            "Scaled gradient descent with a damping of 1/10",
            ("scale", "general"),
            "an orthogonal G; no damping",
            ("scaled_gd", "general"),
        ),
        ("adam", "Adam", _ALL, by_entry, ("lora_rite", "general")),
        ("adamw", "AdamW", _ALL, by_entry, ("lora_rite", "general")),
        ("lora-plus", "LoRA+ over AdamW, η_B = 4 η_A,", _ALL, by_entry, ("lora_rite", "general")),
        ("scaled-adamw", "Scaled AdamW", _ALL, by_entry, ("lora_rite", "general")),
        (
            "adafactor",
            "Adafactor",
            ("rotation", "general"),
            "G a signed permutation; s I",
            ("adafactor", "scale"),
        ),
    ):
        optimizer = id_.replace("-", "_")
        # What an optimizer allows: all entries of a gradient turned, or only exchanged.
        near = "permutation" if "rotation" in mixings else "rotation"
        yield Claim(
            f"split-{id_}",
            f"{name} depends on how B A is split: for {_listed(mixings)} (B G, G⁻¹ A) trains "
            "another f than (B, A), in every seed by at least 1/100 of the largest |f|, both "
            "factors random",
            SCALED if "gd" in id_ else RITE,
            _of(optimizer, mixings, _LEAST),
            wrong,
            (*_of(optimizer, (near,), _LEAST), *_of(other[0], other[1:], _LEAST)),
        )


def _listed(mixings: tuple[str, ...]) -> str:
    words = {"scale": "s I", "rotation": "an orthogonal G", "general": "a general G"}
    *first, last = (words[mixing] for mixing in mixings)
    return f"{', '.join(first)} and {last}"


def _of(
    optimizer: str, mixings: tuple[str, ...], least: Fraction | None = None
) -> tuple[Split, ...]:
    """On both toys, both factors random."""
    return tuple(
        Split(model, optimizer, "both", mixing, least) for model in _BOTH for mixing in mixings
    )
