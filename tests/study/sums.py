"""An experiment that computes nothing of interest, with everything that the lab can do."""

import dataclasses
import time

import numpy as np

from experiments.lab import schema
from experiments.lab.command_line import main
from experiments.lab.experiment import Experiment, Part, Report
from experiments.lab.schema import drawing, integer, layout, number, optional, part, science
from lora_theory.store.dataset import Layout

FACTOR = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SumsConfig(schema.Common):
    seeds: schema.Seeds = science(schema.seeds())
    size: int = science(integer(1, 10**12))
    unit: int | None = science(optional(integer(1, 10)), chosen=True)
    signs: tuple[str, ...] = part(schema.some_of("plus", "minus"))
    wait: float = layout(number(0, 1))
    threads: int = layout(integer(1, 8))
    dpi: int = drawing(integer(30, 600))


class Sums(Experiment):
    name = "sums"
    schema = SumsConfig

    def __init__(self):
        self.ran = []
        self.status = 0
        self.threads = 1

    def plan(self, cfg):
        self.threads = cfg.threads
        return [
            Part(sign, {f"seed={seed}": (sign, seed) for seed in cfg.seeds}, {"sign": sign})
            for sign in cfg.signs
        ]

    def start(self, cfg):
        return {"unit": cfg.unit or 1}

    def run(self, piece, cfg):
        sign, seed = piece
        time.sleep(cfg.wait)
        self.ran.append(piece)
        value = FACTOR * seed * (cfg.unit or 1) * (1 if sign == "plus" else -1)
        return {"total": np.full((1, cfg.size), value)}

    def layout(self, part, cfg):
        coords = {"seed": list(cfg.seeds), "place": range(cfg.size)}
        return Layout(coords, {"total": (("seed", "place"), "float64")}, ("seed",))

    def group(self, piece):
        return piece[1] % 3

    def workers(self):
        return self.threads

    def marks(self, arrays):
        return {"odd": int(arrays["total"][0, 0] / FACTOR) % 2} if arrays else {}

    def report(self, part, data, cfg):
        from matplotlib.figure import Figure

        figure = Figure()
        axes = figure.subplots()
        axes.plot(data.seed, data.total[:, 0])
        axes.set_axis_off()  # Numbers would be the most of drawing it.
        line = f"{part.name}: {float(data.total.sum()):g}"
        return Report([line], {part.name: figure}, {f"{part.name}.txt": line}, ["end"], self.status)


if __name__ == "__main__":
    main(Sums())
