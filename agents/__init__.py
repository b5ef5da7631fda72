"""Agents that play the sequence MDP: SB3 machinery around the models of `seqgan_env`."""
