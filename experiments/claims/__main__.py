"""Every claim of the theory, measured: prediction against measurement, with controls that fail.

python -m experiments.claims                      # all claims: table, claims.json, figures
python -m experiments.claims only=[theorem1-sign] # some of them: runs/claims/only=…
python -m experiments.claims replot=true          # only draw, from saved results
"""

from experiments.claims.experiment import Claims
from experiments.lab.command_line import main

if __name__ == "__main__":
    main(Claims())
