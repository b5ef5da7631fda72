"""Speed of this project: compared with plain PyTorch, compared with the limits of the machine, and for growing sizes.

`python -m benchmarks` times the stages. `plain` has the baselines, written like the paper's equations. `stages` pairs
each of them with our code for the same work. `roofline` counts the operations that the work needs, and `machine`
measures the rates of this machine. Both sides of a pair run in one process, with the same parameters, data and number
of threads. So the ratio depends little on the machine.
`python -m benchmarks scaling` times only our code over growing sizes, and measures its memory: `scaling`, drawn by
`pictures`.
`python -m benchmarks models` counts the parameters of every generator and discriminator and times them: `models`.
"""
