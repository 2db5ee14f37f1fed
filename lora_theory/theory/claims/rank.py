"""Claims about the rank r: how rates and contributions go with it under a multiplier r^−γ."""

from collections.abc import Iterator
from fractions import Fraction

from lora_theory.theory.claims.records import MUA, RSLORA, Claim, Exponents, at, nearby

_RANK = Fraction(1, 20)  # The margin of exponents of r, of which there are few powers of 2.
_GAMMAS = ("0", "1/2", "1")
# The optimum in n, which is fixed.
_IN_N = {"A": "-1/2", "B": "-1"}


def claims() -> Iterator[Claim]:
    """Claims about exponents of r, at one large n."""
    yield from _rates()
    yield from _descent()


def _moved(init: str, e: str, gamma: str, start: str = "0", t: int = 2) -> Exponents:
    """ΔZ_B at η ∝ r^e does not depend on r."""
    options = {"start": start, "gamma": gamma, "c_n": _IN_N[init], "dZ_B": "0"}
    return at("rank_map", "adam", init, (e, e), t, **options)  # type: ignore[arg-type]


def _asked(update: str, init: str, e: str, gamma: str, start: str = "0") -> Exponents:
    """The rate at which ΔZ_B is as large as is asked for is η ∝ r^e."""
    options = {"start": start, "gamma": gamma, "c_n": _IN_N[init], "eta": e}
    return at("rank_map", update, init, None, 2, **options)  # type: ignore[arg-type]


def _law(
    name: str, words: str, source: str, init: str, start: str, law: tuple[str, ...], wrong: str,
    control: tuple[Exponents, ...], **recorded: str,
) -> Claim:  # fmt: skip
    moved = tuple(_moved(init, e, gamma, start) for gamma, e in zip(_GAMMAS, law, strict=True))
    asked = tuple(
        _asked(update, init, e, gamma, start)
        for update in ("sign", "adam")
        for gamma, e in zip(_GAMMAS, law, strict=True)
    )
    near = () if recorded else (nearby(moved[0], _RANK), nearby(asked[0], _RANK))
    also = "" if recorded else "; exponents a little off"
    return Claim(
        name, words, source, (*moved, *asked), wrong + also, (*control, *near),
        **recorded,  # type: ignore[arg-type]
    )  # fmt: skip


def _rates() -> Iterator[Claim]:
    yield _law(
        "rank-init1",
        "Multiplier r^−γ, Init[1], one rate: ΔZ_B does not depend on r where η ∝ n^−1/2 "
        "r^−(1−γ)/2, at γ = 0, 1/2, 1, and the rate that moves Z_B as asked goes so",
        MUA,
        "A",
        "0",
        ("-1/2", "-1/4", "0"),
        "η independent of r at γ = 0, 1/2",
        (_moved("A", "0", "0"), _moved("A", "0", "1/2"), _asked("adam", "A", "0", "0")),
    )
    yield _law(
        "rank-init2",
        "Multiplier r^−γ, Init[2] with B ~ N(0, 1/r), one rate: ΔZ_B does not depend on r where "
        "η ∝ n^−1 r^γ, at γ = 0, 1/2, 1, and the rate that moves Z_B as asked goes so",
        MUA,
        "B",
        "-1/2",
        _GAMMAS,
        "η independent of r at γ = 1; B ~ N(0, 1) at γ = 0, 1/2",
        (
            _moved("B", "0", "1", "-1/2"),
            _moved("B", "0", "0"),
            _moved("B", "1/2", "1/2"),
            _asked("adam", "B", "0", "1", "-1/2"),
        ),
    )
    yield _law(
        "rank-init2-unit",
        "The same with this project's Init[2], B ~ N(0, 1): η ∝ n^−1 r^γ",
        MUA,
        "B",
        "0",
        _GAMMAS,
        "η ∝ n^−1 r^(γ+1/2)",
        (_moved("B", "3/2", "1"),),
        recorded="fails",
        reason="the law comes out with B ~ N(0, 1/r) (rank-init2); with B ~ N(0, 1) a sum of r "
        "random products is r^1/2 larger, and η ∝ n^−1 r^(γ−1/2) keeps ΔZ_B",
    )
    yield _law(
        "rank-init2-unit-law",
        "Init[2] with B ~ N(0, 1): η ∝ n^−1 r^(γ−1/2) at γ = 0, 1/2, 1",
        "recursion of the rank exponents",
        "B",
        "0",
        ("-1/2", "0", "1/2"),
        "η ∝ n^−1 r^γ",
        tuple(_moved("B", gamma, gamma) for gamma in _GAMMAS),
    )


def _descent() -> Iterator[Claim]:
    """At n^−1/2, where no contribution is so large that it changes the residual."""

    def at_rest(init: str, gamma: str, t: int, **predicted: str | None) -> Exponents:
        return at(
            "rank_map", "gd", init, ("0", "0"), t, gamma=gamma, c_n="-1/2", predicted=predicted
        )

    def both(own: str | None, other: str | None, init: str) -> dict[str, str | None]:
        """Exponents of the factor that faces the random one, and of the other."""
        names = ("delta2", "delta1") if init == "A" else ("delta1", "delta2")
        return dict(zip(names, (own, other), strict=True))

    said = tuple(
        at_rest(init, gamma, t, **both(own, None if t == 1 else other, init))
        for init in "AB"
        for gamma, own, other in (("1/2", "0", "-1"), ("1", "-1", "-3"))
        for t in (1, 2, 4)
    )
    yield Claim(
        "rank-gd",
        "Gradient descent is rank-stable at γ = 1/2: at a rate that does not depend on r the "
        "factor that is 0 at the start contributes Θ(r^(1−2γ)) to f, from either init; the other, "
        "from t = 2 on, Θ(r^(1−4γ)), so that at γ = 1/2 it stops learning with the rank",
        RSLORA,
        said,
        "γ = 1, the multiplier α/r, taken for rank-stable, from either init; the other factor too; "
        "exponents a little off",
        (
            nearby(said[0], _RANK),
            *(at_rest(init, "1", 1, **both("0", None, init)) for init in "AB"),
            *(at_rest(init, "1/2", 2, **both("0", "0", init)) for init in "AB"),
        ),
    )
