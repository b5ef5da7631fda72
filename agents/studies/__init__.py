"""Many runs: methods and learners side by side, over seeds, with tests, tables and pictures."""
