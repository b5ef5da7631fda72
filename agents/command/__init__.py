"""The `seqgan` command."""
