"""Tasks, one a file: vocabulary, horizon, real sequences, and the oracle where there is one."""
