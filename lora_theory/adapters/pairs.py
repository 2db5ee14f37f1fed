"""The two factors of one layer: which A goes with which B, and what their shapes say of the layer.

Two layouts are in use: A (in, r), B (r, out) in Flax and Keras, whose product A B is a kernel
(in, out); A (r, in), B (out, r) in the paper, PyTorch and Equinox. Axes before the last two that
both factors share are layers of a scan, heads or experts.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from lora_theory.adapters.names import Leaf

_END = re.compile(r"(?:[ab]|(.*lora_(?:kernel_|embeddings?_)?)(?:[ab]|down|up))", re.I)
# A kernel of Flax and Keras is (in, out); what is called weight or w may be either.
_BESIDE = (("kernel",), ("base_module", "kernel"), ("dense", "kernel"))


class Pair(NamedTuple):
    """The factors of a layer, and its frozen kernel (in, out) where that is among the leaves."""

    a: Leaf
    b: Leaf
    kernel: Leaf | None


def pairs(labelled: Iterable[tuple[Leaf, str | None]]) -> Iterator[Pair]:
    """Factors that belong together: of one name but for its letter, else alone in their place."""
    known = list(labelled)
    at = {leaf.names: leaf for leaf, _ in known}
    factors = [(leaf, label) for leaf, label in known if label in ("A", "B")]
    paired: set[Leaf] = set()
    for same in (_stem, lambda names: names[:-1]):
        places: dict[tuple[str, ...], dict[str, list[Leaf]]] = {}
        for leaf, label in factors:
            if leaf not in paired:
                places.setdefault(same(leaf.names), {}).setdefault(str(label), []).append(leaf)
        for place in places.values():
            if len(place) == 2 and all(len(alike) == 1 for alike in place.values()):
                (a,), (b,) = place["A"], place["B"]
                paired |= {a, b}
                yield Pair(a, b, _kernel(a.names, at))


def _stem(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{end[1] or ''}?" if (end := _END.fullmatch(part)) else part for part in names)


def _kernel(names: tuple[str, ...], at: Mapping[tuple[str, ...], Leaf]) -> Leaf | None:
    for depth in range(1, 4):
        for beside in _BESIDE:
            if found := at.get(names[:-depth] + beside) if depth <= len(names) else None:
                return found
    return None


def fan_in(pair: Pair) -> int | None:
    """The size n of the input that A reads, or None where the shapes do not tell it.

    Of two factors (n, r), (r, m) or (r, n), (m, r) the size that they do not share; where a square
    layer allows both readings, the rank is the smaller one.

    >>> import numpy as np
    >>> of = lambda a, b: Pair(Leaf(("a",), np.zeros(a)), Leaf(("b",), np.zeros(b)), None)
    >>> fan_in(of((64, 4), (4, 32))), fan_in(of((4, 64), (32, 4))), fan_in(of((3, 4, 2), (2, 10)))
    (64, 64, None)
    """
    a, b = core(pair.a.shape, pair.b.shape)
    if len(a) != 2 or len(b) != 2:
        return None
    readings = ((a[1], b[0], a[0]), (a[0], b[1], a[1]))
    sizes = [n for r_of_a, r_of_b, n in readings if r_of_a == r_of_b]
    return max(sizes) or None if sizes else None


def rank(pair: Pair) -> int | None:
    """The rank r that the factors share, or None where the shapes do not tell it."""
    n = fan_in(pair)
    a, _ = core(pair.a.shape, pair.b.shape)
    return None if n is None else a[0] * a[1] // n


def fan_out(pair: Pair) -> int | None:
    """The size m of the output that B writes, or None where the shapes do not tell it."""
    r = rank(pair)
    _, b = core(pair.a.shape, pair.b.shape)
    return b[0] * b[1] // r if r else None


def check_side(pair: Pair) -> None:
    """Refuse a pair whose kernel (in, out) shows that B reads the input and A writes the output.

    Raises:
        ValueError: it names the leaf, and what to write.
    """
    if pair.kernel is None or pair.kernel.shape[-2:][:1] == pair.kernel.shape[-1:]:
        return
    a, b = core(pair.a.shape, pair.b.shape)
    _, kernel = core(pair.a.shape, pair.kernel.shape)
    if not len(a) == len(b) == len(kernel) == 2:
        return
    (first, r), (same, last) = b, a  # The reading (in, r), (r, out) with the labels exchanged.
    if r == same and (first, last) == kernel and a[0] != kernel[0]:
        raise ValueError(
            f"{pair.a}: must read its layer's input of {kernel[0]} features to be in group A, but "
            f"beside {pair.kernel} it is {pair.b.path} that does; exchange the two in labels="
        )


def core(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Both shapes without the leading axes that they share.

    >>> core((7, 4, 64), (7, 32, 4))
    ((4, 64), (32, 4))
    """
    while len(a) > 2 and len(b) > 2 and a[0] == b[0]:
        a, b = a[1:], b[1:]
    return a, b
