"""Speed of this project: beside the same work written plainly in PyTorch, beside what the machine allows, and as sizes
grow.

`python -m benchmarks` times the stages: `plain` holds the baselines, as the paper's equations read; `stages` pairs each
with our way of doing the same work; `roofline` counts what the work needs, `machine` measures what this machine can do.
Both sides of a pair run in one process, on the same parameters and data, with the same number of threads, so that the
ratio outlives the machine that it was measured on.
`python -m benchmarks scaling` times ours alone over growing sizes, with its memory: `scaling`, drawn by `pictures`.
`python -m benchmarks models` counts the parameters of every generator and discriminator and times them: `models`.
"""
