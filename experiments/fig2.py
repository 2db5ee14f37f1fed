"""Figure 2: loss over (η_A, η_B) of the two-layer toy, and the curves of the two best pairs.

python -m experiments.fig2                            # the paper's setting, both losses
python -m experiments.fig2 model.width=256 loss=mse   # elsewhere: runs/fig2/model.width=256
python -m experiments.fig2 -m model.width=64,128,256
python -m experiments.fig2 replot=true                # only draw
"""

from experiments.lab.command_line import main
from experiments.landscape.experiment import Landscape


class Fig2(Landscape):
    """The paper's grid and its three seeds."""

    name = "fig2"


if __name__ == "__main__":
    main(Fig2())
