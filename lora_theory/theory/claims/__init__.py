"""Every claim as data: what is said, where, in which setting, and the exponents that follow.

`records` has what a claim is made of; the other modules have the claims, by what they speak of. A
new claim is an entry in one of them.
"""

from collections.abc import Iterator

from lora_theory.theory.claims import (
    landscapes,
    layer,
    linear_toy,
    rank,
    splits,
    symmetries,
    two_layer,
)
from lora_theory.theory.claims.records import Carried as Carried
from lora_theory.theory.claims.records import Case as Case
from lora_theory.theory.claims.records import Claim as Claim
from lora_theory.theory.claims.records import Collapsing as Collapsing
from lora_theory.theory.claims.records import Escape as Escape
from lora_theory.theory.claims.records import Exponents as Exponents
from lora_theory.theory.claims.records import Family as Family
from lora_theory.theory.claims.records import Identity as Identity
from lora_theory.theory.claims.records import Limit as Limit
from lora_theory.theory.claims.records import Moving as Moving
from lora_theory.theory.claims.records import Phase as Phase
from lora_theory.theory.claims.records import Placed as Placed
from lora_theory.theory.claims.records import Reduction as Reduction
from lora_theory.theory.claims.records import Setting as Setting
from lora_theory.theory.claims.records import Split as Split
from lora_theory.theory.claims.records import Symmetry as Symmetry
from lora_theory.theory.claims.records import derived as derived


def claims(ids: tuple[str, ...] | None = None) -> list[Claim]:
    """All claims, or those with the given ids.

    Raises:
        ValueError: an unknown id, by name.

    >>> [claim.id for claim in claims(("theorem1-sign",))]
    ['theorem1-sign']
    """
    known = {claim.id: claim for claim in _claims()}
    for name in ids or ():
        if name not in known:
            raise ValueError(f"must be among {', '.join(known)} (got {name})")
    return [known[name] for name in (known if ids is None else ids)]


def _claims() -> Iterator[Claim]:
    for subject in (linear_toy, layer, two_layer, rank, symmetries, splits, landscapes):
        yield from subject.claims()
