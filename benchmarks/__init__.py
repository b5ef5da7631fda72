"""Speed of this project beside the same work written plainly in PyTorch: `python -m benchmarks`.

`plain` holds the baselines, as the paper's equations read; `stages` pairs each with our way of doing the same work;
`report` prints and saves. Both sides of a pair run in one process, on the same parameters and data, with the same
number of threads, so that the ratio outlives the machine that it was measured on.
"""
