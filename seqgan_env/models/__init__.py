"""Sequence models (generator, oracle, roll-out policy) and discriminators."""
