"""Many runs: compares methods and learners over seeds, with tests, tables and pictures."""
