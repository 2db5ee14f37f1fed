"""Every claim of the theory, measured: `python -m experiments.claims`.

`settings` runs what claims speak of, `judge` compares with what they say, `report` shows it.
"""
