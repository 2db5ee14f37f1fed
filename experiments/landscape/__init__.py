"""Landscapes over (η_A, η_B): what `fig2` and `optimum` have in common.

`experiment` has the config, the pieces and the data set, `report` what is said of it.
"""
