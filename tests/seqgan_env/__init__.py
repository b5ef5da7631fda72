"""Tests of `seqgan_env`, a file for each module."""
