"""A small world in which nothing needs to be estimated. Read `world` first."""

from seqgan_env.exact.policies import TablePolicy
from seqgan_env.exact.sequences import MOST_SEQUENCES, SequenceTree, count_sequences
from seqgan_env.exact.world import ExactWorld, Moments

__all__ = ["MOST_SEQUENCES", "ExactWorld", "Moments", "SequenceTree", "TablePolicy", "count_sequences"]
