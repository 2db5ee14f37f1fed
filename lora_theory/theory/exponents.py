"""Width exponents of an update rule, and the rates at which training is efficient.

An update rule is a generator that multiplies and adds powers (`powers.Power`), one `Step` per
update; running it gives every exponent at every t, and `solve` runs it on all rates at once, by
exact case analysis, so that "which (c_a, c_b) are efficient?" has sets with rational ends for an
answer. Nothing is measured here, and nothing here needs JAX.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from lora_theory import arguments
from lora_theory.terms import Class, Verdict
from lora_theory.theory.polyhedra import Cell, UndecidedError
from lora_theory.theory.powers import ONE as ONE
from lora_theory.theory.powers import ZERO as ZERO
from lora_theory.theory.powers import N as N
from lora_theory.theory.powers import Power as Power
from lora_theory.theory.powers import R as R
from lora_theory.theory.powers import RuleError as RuleError
from lora_theory.theory.powers import Unknown as Unknown
from lora_theory.theory.powers import _power
from lora_theory.theory.powers import rational as rational

# After so many steps a rule of k = 2 sizes that feed each other has settled, or it grows for ever:
# a max-plus recursion of k sizes that still changes after k steps has a positive cycle (as in
# Bellman and Ford's algorithm). Contributions follow a step behind; one more is for safety.
SETTLED = 4


_DELTAS = {"delta1", "delta2", "delta3"}


class Step(NamedTuple):
    """Sizes after one update.

    Attributes:
        f: the output, or Z_B for a layer alone; what must stay O(1).
        deltas: contributions to this update of f: delta1 (A moved alone), delta2 (B moved
            alone), delta3 (both); of a single matrix, delta1 alone.
        inside: what Definition 3 wants to be O(1) as well: B, Z_A.
        other: anything else worth predicting.
    """

    f: Power
    deltas: Mapping[str, Power]
    inside: Mapping[str, Power]
    other: Mapping[str, Power] = {}

    def sizes(self) -> dict[str, Power]:
        """All of them, by name."""
        return {"f": self.f, **self.inside, **self.deltas, **self.other}


@dataclasses.dataclass(frozen=True)
class Rule:
    """An update rule: how sizes follow from rates.

    Attributes:
        name: in words.
        run: `(init, **rates)` -> iterator of a `Step` per update, for ever; the rates are powers.
        exponents: the names of the unknown exponents, as ("c_a", "c_b").
        rates: exponents as powers -> the keyword arguments of `run`; called with a power of n
            of each unknown exponent.
        inits: the initialisations that `run` knows.
        settled: steps after which exponents have settled or grow for ever: at least two more
            than the number of sizes that feed each other.

    A rule of one's own takes a few lines; LoRA-FA, which freezes A:

    >>> from lora_theory.theory.rules import START, processed
    >>> def run(init, eta_b):
    ...     b, z_a = START[init]
    ...     while True:
    ...         db = eta_b * processed(z_a)
    ...         b = b + db
    ...         deltas = {"delta1": ZERO, "delta2": db * z_a, "delta3": ZERO}
    ...         yield Step(b * z_a, deltas, {"B": b, "Z_A": z_a})
    >>> lora_fa = Rule("LoRA-FA, sign updates", run, ("c_b",), width_rates("eta_b"), ("A",))
    >>> for region in solve(lora_fa, "A"):
    ...     print(region)
    B alone: c_b = 0
    stable, no feature learning: c_b < 0
    unstable from t = 1: c_b > 0

    And full fine-tuning of the same layer, one matrix with one rate, ΔW Z = Θ(n) η:

    >>> def run(init, eta):
    ...     z = ONE
    ...     while True:
    ...         dz = eta * N
    ...         z = z + dz
    ...         yield Step(z, {"delta1": dz}, {})
    >>> full = Rule("full fine-tuning, sign updates", run, ("c",), width_rates("eta"), ("W*",))
    >>> [str(region) for region in efficient(full, "W*")]
    ['True: c = -1']
    """

    name: str
    run: Callable[..., Iterator[Step]]
    exponents: tuple[str, ...]
    rates: Callable[..., dict[str, Power]]
    inits: tuple[str, ...]
    settled: int = SETTLED

    def steps(
        self, init: "str | tuple[Power, Power]", exponents: Mapping[str, Any]
    ) -> Iterator[Step]:
        """Run at the given exponents (numbers, or the powers of a case analysis).

        Args:
            init: one of `inits`, or the sizes of (B, Z_A) at the start.
            exponents: the exponent of each rate, by name.

        Raises:
            ValueError: an unknown init, missing or unknown exponents, or one that is no rational.
            RuleError: the rule is not polynomial in n.
        """
        if isinstance(init, str) and init not in self.inits:
            raise ValueError(f"init: must be one of {', '.join(self.inits)} (got {init!r})")
        if not isinstance(init, str) and not (
            isinstance(init, tuple) and [type(size) for size in init] == [Power, Power]
        ):
            wanted = f"one of {', '.join(self.inits)}, or the two powers (B, Z_A)"
            raise arguments.refusal("init", wanted, init)
        if not isinstance(exponents, Mapping):
            raise arguments.refusal("exponents", "by name, as {'c_a': -1}", exponents)
        if set(exponents) != set(self.exponents):
            raise ValueError(
                f"exponents: {self.name} needs {', '.join(self.exponents)} "
                f"(got {', '.join(exponents) or 'none'})"
            )
        values = {
            name: value if isinstance(value, Unknown) else Unknown((rational(value, name),), None)
            for name, value in exponents.items()
        }
        for step in self.run(init, **self.rates(**values)):
            if not isinstance(step, Step):
                raise RuleError(f"run: must yield a Step per update (got {step!r})")
            if "delta1" not in step.deltas or not set(step.deltas) <= _DELTAS:
                raise RuleError(
                    f"deltas: must be delta1 and, of two factors, delta2, delta3 (got "
                    f"{', '.join(step.deltas) or 'none'})"
                )
            for power in step.sizes().values():
                _power(power)
            yield step
        raise RuleError("run: must yield a Step per update without end (it ended)")


def width_rates(*names: str) -> Callable[..., dict[str, Power]]:
    """Rates η = n^c, in the order of the rule's exponents."""

    def rates(**exponents: Unknown) -> dict[str, Power]:
        values = exponents.values()
        return {name: c.of(N) for name, c in zip(names, values, strict=True)}

    return rates


def shared(rule: Rule) -> Rule:
    """The same rule with one rate for both factors, η_A = η_B = Θ(n^c).

    >>> from lora_theory.theory.rules import LINEAR_GD
    >>> [str(region) for region in efficient(shared(LINEAR_GD), "A")]  # Proposition 1
    []
    """

    def rates(c: Unknown) -> dict[str, Power]:
        return rule.rates(**dict.fromkeys(rule.exponents, c))

    return dataclasses.replace(rule, name=f"{rule.name}, one rate", exponents=("c",), rates=rates)


def derive(
    rule: Rule, init: str | tuple[Power, Power], exponents: Mapping[str, Any], steps: int
) -> list[dict[str, Power]]:
    """Every size after each of `steps` updates, by running the recursion.

    >>> from lora_theory.theory.rules import LAYER_SIGN
    >>> for sizes in derive(LAYER_SIGN, "A", {"c_a": "-1/2", "c_b": "-1/2"}, 3):
    ...     print({name: str(sizes[name]) for name in ("B", "Z_A", "delta1", "delta2")})
    {'B': 'n^-1/2', 'Z_A': '1', 'delta1': '0', 'delta2': 'n^-1/2'}
    {'B': 'n^-1/2', 'Z_A': 'n^1/2', 'delta1': '1', 'delta2': 'n^-1/2'}
    {'B': 'n^-1/2', 'Z_A': 'n^1/2', 'delta1': '1', 'delta2': '1'}
    """
    steps, run = arguments.integer("steps", steps, 0), rule.steps(init, exponents)
    return [step.sizes() for step in itertools.islice(run, steps)]


def classify(rule: Rule, init: str, exponents: Mapping[str, Any]) -> Class:
    """Stable or not, and which factors learn, at given exponents.

    >>> from lora_theory.theory.rules import LINEAR_GD
    >>> str(classify(LINEAR_GD, "A", {"c_a": -1, "c_b": 0}))  # Proposition 2
    'efficient'
    >>> str(classify(LINEAR_GD, "A", {"c_a": "-1/2", "c_b": "-1/4"}))
    'unstable from t = 3'
    """
    return _classify(rule.steps(init, exponents), rule.settled)


def first_unstable(rule: Rule, init: str, exponents: Mapping[str, Any], limit: int = 1000) -> int:
    """The first t at which f is not O(1); 0 if there is none up to `limit`."""
    limit = arguments.integer("limit", limit)
    before: Step | None = None
    for t, step in enumerate(itertools.islice(rule.steps(init, exponents), limit), 1):
        if step.f.compare(ONE) > 0:
            return t
        if t > rule.settled and before is not None and not _differ(before, step):
            return 0
        before = step
    return 0


def _classify(steps: Iterator[Step], settled: int) -> Class:
    for t in range(1, settled + 1):
        step = next(steps)
        if step.f.compare(ONE) > 0:
            return Class(Verdict.UNSTABLE, t)
    last = next(steps)
    if _differ(step, last):
        return Class(Verdict.UNSTABLE)
    alone = [last.deltas[name] for name in ("delta1", "delta2") if name in last.deltas]
    learns = [delta.compare(ONE) == 0 for delta in alone]
    if all(learns):
        calm = all(size.compare(ONE) <= 0 for size in last.inside.values())
        return Class(Verdict.EFFICIENT if calm else Verdict.INSIDE)
    if not any(learns):
        return Class(Verdict.NO_LEARNING)
    return Class(Verdict.A_ALONE if learns[0] else Verdict.B_ALONE)


def _differ(before: Step, after: Step) -> bool:
    sizes = before.sizes()
    return any(size.compare(sizes[name]) for name, size in after.sizes().items())


class Region(NamedTuple):
    """A convex set of exponents with one answer throughout."""

    answer: Any
    cell: Cell

    def __str__(self) -> str:
        return f"{self.answer}: {self.cell}"


def solve(
    rule: Rule,
    init: str,
    question: Callable[[Iterator[Step]], Any] | None = None,
) -> list[Region]:
    """The answer to a question about the steps, for all exponents at once and exactly.

    The rule runs on unknown exponents. Where a comparison depends on them, the set splits in
    three (<, =, >) and the rule runs again on each, until every comparison is decided.

    Args:
        rule, init: what is run.
        question: iterator of steps -> a hashable answer; the verdict by default.

    Returns:
        Disjoint convex sets, together the whole plane (or line, or space) of exponents, those of
        equal answers merged where that leaves them convex.

    >>> from lora_theory.theory.rules import LAYER_SIGN
    >>> for region in solve(shared(LAYER_SIGN), "A"):
    ...     print(region)
    efficient, but unstable inside: c = -1/2
    stable, no feature learning: c < -1/2
    unstable from t = 1: c > 0
    unstable from t = 2: -1/2 < c ≤ 0
    """
    question = question or functools.partial(_classify, settled=rule.settled)
    answers: dict[Any, list[Cell]] = {}
    todo = [Cell(rule.exponents)]
    while todo:
        cell = todo.pop()
        unknown = {name: Unknown(cell.variable(name), cell) for name in rule.exponents}
        try:
            answer = question(rule.steps(init, unknown))
        except UndecidedError as undecided:
            todo += cell.split(undecided.form)
            continue
        answers.setdefault(answer, []).append(cell)
    return [
        Region(answer, cell)
        for answer in sorted(answers, key=str)
        for cell in Cell.merged(answers[answer])
    ]


def efficient(rule: Rule, init: str, *, inside: bool = True) -> list[Region]:
    """Where every factor learns: δ¹, δ² = Θ(1) once exponents have settled, f = O(1) (Def. 5).

    Exponents settle by t = 3. On the half-line below δ² (Init[2]: δ¹) is still smaller at t = 2,
    so that Definition 5 read literally, for all t > 1, leaves (−1, 0) alone there as well.

    Args:
        rule, init: what is run.
        inside: whether B and Z_A must stay O(1) too, as Definition 3 asks.

    >>> from lora_theory.theory.rules import LAYER_SIGN
    >>> [str(region.cell) for region in efficient(LAYER_SIGN, "A")]  # Theorem 1
    ['c_a = -1, c_b = 0']
    >>> [str(region.cell) for region in efficient(LAYER_SIGN, "A", inside=False)]
    ['c_a + c_b = -1, c_b ≤ 0']
    """
    wanted = {Verdict.EFFICIENT} if inside else {Verdict.EFFICIENT, Verdict.INSIDE}

    def question(steps: Iterator[Step]) -> bool:
        return _classify(steps, rule.settled).verdict in wanted

    return [region for region in solve(rule, init, question) if region.answer]
