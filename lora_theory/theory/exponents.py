"""Width exponents of an update rule, and the rates at which training is efficient.

An update rule is a generator that multiplies and adds powers (`powers.Power`), one `Step` per
update; running it gives every exponent at every t, and `solve` runs it on all rates at once, by
exact case analysis, so that "which (c_a, c_b) are efficient?" has sets with rational ends for an
answer. Nothing is measured here, and nothing here needs JAX.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NamedTuple

from lora_theory import arguments
from lora_theory.terms import Class, Verdict
from lora_theory.theory import trends
from lora_theory.theory.polyhedra import Cell, UndecidedError
from lora_theory.theory.powers import ONE as ONE
from lora_theory.theory.powers import ZERO as ZERO
from lora_theory.theory.powers import N as N
from lora_theory.theory.powers import Power as Power
from lora_theory.theory.powers import R as R
from lora_theory.theory.powers import RuleError as RuleError
from lora_theory.theory.powers import Unknown as Unknown
from lora_theory.theory.powers import as_power
from lora_theory.theory.powers import rational as rational

# Instability is dated up to this t, as "unstable from t = 3"; "unstable later" is beyond it. A rule
# of B and Z_A alone has settled by then, or some of its sizes grow for ever.
SETTLED = 4
# No rule is run further at given rates. At unknown ones, which split at every comparison, it is run
# for so many rounds as `_enough` says.
LONGEST = 200
# So many updates are looked back on for what repeats.
WINDOW = 40
# A set of exponents is split so often in a row; rules whose cases end have needed 12 at most, and
# where they do not end a split follows on every update.
MOST_SPLITS = 24

Sizes = tuple[Any, ...]
_DELTAS = {"delta1", "delta2", "delta3"}


class Step(NamedTuple):
    """Sizes after one update.

    Attributes:
        f: the output, or Z_B for a layer alone; what must stay O(1).
        deltas: contributions to this update of f: delta1 (A moved alone), delta2 (B moved
            alone), delta3 (both); of a single matrix, delta1 alone. What is left out is 0: where
            B alone is trained, delta2 is enough.
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
        run: `(start, **rates)` -> generator of a `Step` per update, for ever; `start` is a tuple
            of sizes, as (B, Z_A), and the rates are powers. It keeps sizes in variables of its
            own, and adds, multiplies, divides and raises them to powers.
        exponents: the names of the unknown exponents, as ("c_a", "c_b").
        rates: exponents as powers -> the keyword arguments of `run`; called with a power of n
            of each unknown exponent.
        inits: the initial sizes by name.
        settled: instability is dated up to this t, and nothing is concluded before.
        period: of an update that depends on t, if it keeps a counter: `t % 2` has the period 2.
            Updates written one after the other, each with a `yield`, need not say it.

    A rule of one's own takes a few lines; LoRA-FA, which freezes A:

    >>> from lora_theory.theory.rules import START, processed
    >>> def run(start, eta_b):
    ...     b, z_a = start
    ...     while True:
    ...         db = eta_b * processed(z_a)
    ...         b = b + db
    ...         yield Step(b * z_a, {"delta2": db * z_a}, {"B": b, "Z_A": z_a})
    >>> inits = {"A": START["A"]}
    >>> lora_fa = Rule("LoRA-FA, sign updates", run, ("c_b",), width_rates("eta_b"), inits)
    >>> for region in solve(lora_fa, "A"):
    ...     print(region)
    B alone: c_b = 0
    stable, no feature learning: c_b < 0
    unstable from t = 1: c_b > 0

    And full fine-tuning of the same layer, one matrix with one rate, ΔW Z = Θ(n) η:

    >>> def run(start, eta):
    ...     (z,) = start
    ...     while True:
    ...         dz = eta * N
    ...         z = z + dz
    ...         yield Step(z, {"delta1": dz}, {})
    >>> full = Rule("full fine-tuning", run, ("c",), width_rates("eta"), {"W*": (1,)})
    >>> [str(region) for region in efficient(full, "W*")]
    ['True: c = -1']

    From other sizes at the start:

    >>> [str(region) for region in efficient(full, (N ** "1/2",))]  # f is not O(1)
    []
    """

    name: str
    run: Callable[..., Iterator[Step]]
    exponents: tuple[str, ...]
    rates: Callable[..., dict[str, Power]]
    inits: Mapping[str, Sizes] = dataclasses.field(hash=False)
    settled: int = SETTLED
    period: int | None = None

    def __post_init__(self) -> None:
        arguments.integer("settled", self.settled)
        if self.period is not None:
            arguments.integer("period", self.period)
        if not isinstance(self.inits, Mapping):
            wanted = 'sizes by name, as {"A": (0, 1)} for B = 0 and Z_A = Θ(1)'
            raise arguments.refusal("inits", wanted, self.inits)

    def start(self, init: str | Sizes) -> tuple[Power, ...]:
        """The sizes at the start: those of a name in `inits`, or the given ones.

        Raises:
            ValueError: an unknown name, or sizes that are none, or as many as no init has.
        """
        if isinstance(init, str):
            arguments.one_of("init", init, self.inits)
            init = self.inits[init]
        counts = {len(sizes) for sizes in self.inits.values()}
        wanted = f"one of {', '.join(self.inits)}, or sizes at the start, as (Power(0), 0)"
        if not isinstance(init, tuple) or (counts and len(init) not in counts):
            raise arguments.refusal("init", wanted, init)
        try:
            return tuple(as_power(size) for size in init)
        except RuleError:
            raise arguments.refusal("init", wanted, init) from None

    def steps(self, init: str | Sizes, exponents: Mapping[str, Any]) -> Iterator[Step]:
        """Run at the given exponents (numbers, or the powers of a case analysis).

        Args:
            init: one of `inits`, or sizes at the start, as those of (B, Z_A).
            exponents: the exponent of each rate, by name.

        Raises:
            ValueError: an unknown init, missing or unknown exponents, or one that is no rational.
            RuleError: the rule is not polynomial in n.
        """
        return (moment.step for moment in self.moments(init, exponents))

    def moments(self, init: str | Sizes, exponents: Mapping[str, Any]) -> Iterator[trends.Moment]:
        """The steps, each with what the rule keeps; arguments are those of `steps`."""
        start = self.start(init)
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
        run = self.run(start, **self.rates(**values))
        return (
            moment._replace(step=_checked(moment.step))
            for moment in trends.moments(run, self.period)
        )


def _checked(step: Any) -> Step:
    """A step with every size as a power.

    Raises:
        RuleError: it is no step, or lacks contributions.
    """
    if not isinstance(step, Step):
        raise RuleError(
            'run: must yield a Step per update, as Step(f, {"delta1": …, "delta2": …}, {"B": …}) '
            f"(got {step!r})"
        )
    for name in ("deltas", "inside", "other"):
        if not isinstance(getattr(step, name), Mapping):
            raise RuleError(f"{name}: must be sizes by name (got {getattr(step, name)!r})")
    if not step.deltas or not set(step.deltas) <= _DELTAS or set(step.deltas) == {"delta3"}:
        raise RuleError(
            "deltas: must be delta1 (A alone, or a single matrix), delta2 (B alone) or both, and "
            f"delta3 (got {', '.join(map(str, step.deltas)) or 'none'})"
        )
    f, *parts = step
    return Step(
        as_power(f), *({name: as_power(size) for name, size in part.items()} for part in parts)
    )


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


def fixed(rule: Rule, **exponents: Any) -> Rule:
    """The same rule with some of its exponents given.

    >>> from lora_theory.theory.variants import WEIGHT_DECAY
    >>> [str(region) for region in efficient(fixed(WEIGHT_DECAY, d=0), "A")]
    ['True: c_a = -1, c_b = 0']

    Raises:
        ValueError: an exponent that the rule has not, all of them, or one that is not rational.
    """
    free = tuple(name for name in rule.exponents if name not in exponents)
    if not free or not set(exponents) <= set(rule.exponents):
        raise ValueError(
            f"exponents: must be some of {', '.join(rule.exponents)}, and not all of them "
            f"(got {', '.join(exponents)})"
        )
    given = {name: Unknown((rational(value, name),), None) for name, value in exponents.items()}

    def rates(**values: Unknown) -> dict[str, Power]:
        return rule.rates(**{name: (given | values)[name] for name in rule.exponents})

    words = ", ".join(f"{name} = {value}" for name, value in exponents.items())
    return dataclasses.replace(rule, name=f"{rule.name}, {words}", exponents=free, rates=rates)


def derive(
    rule: Rule, init: str | Sizes, exponents: Mapping[str, Any], steps: int
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


def classify(rule: Rule, init: str | Sizes, exponents: Mapping[str, Any]) -> Class:
    """Stable or not, and which factors learn, at given exponents.

    Raises:
        RuleError: the exponents change for so long that what becomes of them can not be told.

    >>> from lora_theory.theory.rules import LINEAR_GD
    >>> str(classify(LINEAR_GD, "A", {"c_a": -1, "c_b": 0}))  # Proposition 2
    'efficient'
    >>> str(classify(LINEAR_GD, "A", {"c_a": "-1/2", "c_b": "-1/4"}))
    'unstable from t = 3'
    """
    return _classify(rule, rule.moments(init, exponents), lambda _: LONGEST)


def first_unstable(
    rule: Rule, init: str | Sizes, exponents: Mapping[str, Any], limit: int = 1000
) -> int:
    """The first t at which f is not O(1); 0 if there is none up to `limit`."""
    limit = arguments.integer("limit", limit)
    past: list[trends.Moment] = []
    for t, moment in enumerate(itertools.islice(rule.moments(init, exponents), limit), 1):
        if moment.step.f.compare(ONE) > 0:
            return t
        past = [*past[-WINDOW:], moment]
        found = trends.trend(past) if t > rule.settled else None
        if found and found.growth != "more" and not found.grows(past, "f"):
            return 0
    return 0


def _classify(
    rule: Rule, moments: Iterator[trends.Moment], enough: Callable[[trends.Moment], int]
) -> Class:
    past: list[trends.Moment] = []
    for t, moment in enumerate(moments, 1):
        if moment.step.f.compare(ONE) > 0:
            return Class(Verdict.UNSTABLE, t if t <= rule.settled else None)
        past = [*past[-WINDOW:], moment]
        found = trends.trend(past) if t > rule.settled else None
        if found and (certain := _certain(past, found)):
            return certain
        if t >= rule.settled + enough(moment):
            break
    raise RuleError(
        f"{rule.name}: its sizes still change after {t} updates in a way that does not tell what "
        "becomes of them (an update that counts t must name its period, as Rule(…, period=2); with "
        "some exponents `fixed`, or at a point, by `classify`, there may be an answer)"
    )


def _enough(moment: trends.Moment) -> int:
    """Updates after which k sizes that feed each other have shown their trend.

    What grows does so along a cycle of at most k of them, and has to be seen going round twice.
    """
    return 2 * (len(moment.kept) + 1)


def _certain(past: list[trends.Moment], found: trends.Trend) -> Class | None:
    """The class of a rule whose trend is certain, and which has been stable so far."""
    if found.growth == "more" or found.grows(past, "f"):
        return Class(Verdict.UNSTABLE)
    cycle = [moment.step for moment in past[-found.period :]]
    if found.growth == "less":  # What is Θ(1) now may shrink later.
        alone = [step.deltas.get(name, ZERO) for step in cycle for name in ("delta1", "delta2")]
        learned = any(delta.compare(ONE) >= 0 for delta in alone)
        return None if learned else Class(Verdict.NO_LEARNING)
    learns = {
        name: _stays_one(past, found, name)
        for name in ("delta1", "delta2")
        if any(name in step.deltas for step in cycle)
    }
    if all(learns.values()) and set(learns) != {"delta2"}:
        calm = not any(
            size.compare(ONE) > 0 or found.grows(past, name)
            for step in cycle
            for name, size in step.inside.items()
        )
        return Class(Verdict.EFFICIENT if calm else Verdict.INSIDE)
    if not any(learns.values()):
        return Class(Verdict.NO_LEARNING)
    return Class(Verdict.A_ALONE if learns.get("delta1") else Verdict.B_ALONE)


def _stays_one(past: list[trends.Moment], found: trends.Trend, name: str) -> bool:
    """Whether a contribution is Θ(1) in every round of the rule's updates, now and ever after."""
    cycle = past[-found.period :]
    if found.changes(past, name):
        return False
    ones = [moment.step.deltas.get(name, ZERO).compare(ONE) == 0 for moment in cycle]
    return all(any(ones[i : i + found.round]) for i in range(0, len(ones), found.round))


class Region(NamedTuple):
    """A convex set of exponents with one answer throughout."""

    answer: Any
    cell: Cell

    def __str__(self) -> str:
        return f"{self.answer}: {self.cell}"


def solve(
    rule: Rule,
    init: str | Sizes,
    question: Callable[[Iterator[Step]], Any] | None = None,
    *,
    most: int = MOST_SPLITS,
    rest: Any = None,
) -> list[Region]:
    """The answer to a question about the steps, for all exponents at once and exactly.

    The rule runs on unknown exponents. Where a comparison depends on them, the set splits in
    three (<, =, >) and the rule runs again on each, until every comparison is decided.

    Args:
        rule: what is run.
        init: a name of its `inits`, or sizes at the start.
        question: iterator of steps -> a hashable answer; the verdict by default.
        most: so many splits in a row leave a set undecided.
        rest: the answer for what is left undecided; without one it is an error.

    Returns:
        Disjoint convex sets, together the whole plane (or line, or space) of exponents, those of
        equal answers merged where that leaves them convex.

    Raises:
        RuleError: what becomes of the sizes can not be told for all exponents at once.

    >>> from lora_theory.theory.rules import LAYER_SIGN
    >>> for region in solve(shared(LAYER_SIGN), "A"):
    ...     print(region)
    efficient, but unstable inside: c = -1/2
    stable, no feature learning: c < -1/2
    unstable from t = 1: c > 0
    unstable from t = 2: -1/2 < c ≤ 0
    """
    if question is None:
        classified = functools.partial(_classified, rule, init)
        answers = _cells(rule, classified, most, rest)
    else:
        answers = _cells(rule, lambda at: question(rule.steps(init, at)), most, rest)
    return [
        region for answer in sorted(answers, key=str) for region in _merged(answer, answers[answer])
    ]


def _classified(rule: Rule, init: str | Sizes, at: dict[str, Unknown]) -> Class:
    return _classify(rule, rule.moments(init, at), _enough)


def _cells(
    rule: Rule, answered: Callable[[dict[str, Unknown]], Hashable], most: int, rest: Hashable = None
) -> dict[Hashable, list[Cell]]:
    """The cells of every answer, as the case analysis finds them; `rest` where it does not end."""
    most = arguments.integer("most", most)
    answers: dict[Hashable, list[Cell]] = {}
    todo = [(Cell(rule.exponents), 0)]
    while todo:
        cell, splits = todo.pop()
        try:
            answer = answered({name: Unknown(cell.variable(name), cell) for name in rule.exponents})
        except UndecidedError as undecided:
            if splits < most:
                todo += [(part, splits + 1) for part in cell.split(undecided.form)]
                continue
            if rest is None:
                raise RuleError(
                    f"{rule.name}: its cases do not end, after {most} splits in a row at {cell} "
                    "(give some exponents with `fixed`, or ask at a point with `classify`)"
                ) from None
            answer = rest
        answers.setdefault(answer, []).append(cell)
    return answers


def _merged(answer: Any, cells: list[Cell]) -> list[Region]:
    return [Region(answer, cell) for cell in Cell.merged(cells)]


def efficient(
    rule: Rule, init: str | Sizes, *, inside: bool = True, most: int = MOST_SPLITS
) -> list[Region]:
    """Where every factor learns: δ¹, δ² = Θ(1) once exponents have settled, f = O(1) (Def. 5).

    Exponents settle by t = 3. On the half-line below δ² (Init[2]: δ¹) is still smaller at t = 2,
    so that Definition 5 read literally, for all t > 1, leaves (−1, 0) alone there as well.

    Args:
        rule: what is run.
        init: a name of its `inits`, or sizes at the start.
        inside: whether B and Z_A must stay O(1) too, as Definition 3 asks.
        most: as in `solve`.

    Raises:
        RuleError: as in `solve`.

    >>> from lora_theory.theory.rules import LAYER_SIGN
    >>> [str(region.cell) for region in efficient(LAYER_SIGN, "A")]  # Theorem 1
    ['c_a = -1, c_b = 0']
    >>> [str(region.cell) for region in efficient(LAYER_SIGN, "A", inside=False)]
    ['c_a + c_b = -1, c_b ≤ 0']
    """
    wanted = {Verdict.EFFICIENT} if inside else {Verdict.EFFICIENT, Verdict.INSIDE}

    def answered(at: dict[str, Unknown]) -> bool:
        return _classified(rule, init, at).verdict in wanted

    return _merged(True, _cells(rule, answered, most).get(True, []))
