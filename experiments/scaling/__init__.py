"""How a landscape over (η_A, η_B) moves with the width n and the rank r: sweeps, and what they say."""
