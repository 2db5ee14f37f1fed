"""Where the optimum of Figure 2's toy lies: a coarser grid with enough seeds to say it.

python -m experiments.optimum                  # both losses
python -m experiments.optimum seeds=96..191    # other seeds, in a folder of their own
"""

from experiments.lab.command_line import main
from experiments.landscape.experiment import Landscape


class Optimum(Landscape):
    """Powers of 2, many seeds."""

    name = "optimum"


if __name__ == "__main__":
    main(Optimum())
