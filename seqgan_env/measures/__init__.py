"""Measuring: likelihoods, BLEU, samples beside real sequences, nearest training sequences."""
