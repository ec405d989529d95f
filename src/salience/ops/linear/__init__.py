"""Linear attention with decay: one function, five backends, states, packing, masks, weights."""
