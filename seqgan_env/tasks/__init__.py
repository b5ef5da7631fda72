"""The tasks: one file each, whose options class makes the `Task`. `TASKS` lists them without importing them."""

from seqgan_env.task_files import TASKS as TASKS
