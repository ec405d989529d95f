"""Self-attention: every token looks at the others of its own sequence."""
