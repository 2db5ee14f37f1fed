"""How a landscape over (η_A, η_B) moves with width and rank: sweeps, and what they say."""
