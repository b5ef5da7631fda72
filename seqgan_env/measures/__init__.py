"""Measuring: likelihoods, BLEU, comparison of samples with real sequences, nearest training sequences."""
