"""The tasks: one file each, whose options class makes the `Task`. `TASKS` lists them without importing any."""

from seqgan_env.task_files import TASKS as TASKS
