"""Mutation tests: change one expression of a core module at a time, and check that a test fails.

    python tests/mutate.py                                  # every module of MODULES
    python tests/mutate.py seqgan_env/mdp.py                # one of them
    python tests/mutate.py seqgan_env/mdp.py --again        # those that survived, after new tests were written
    python tests/mutate.py --report                         # the table again, of the runs that are there

mutmut makes the mutants and runs the tests. It forks a process for each mutant after torch was imported once. This
file says which tests belong to which module, and changes two things: functions behind `@torch.no_grad()` are mutated
too, which mutmut leaves out as it does every decorated function; the words of error messages are not.
Mutants that no test can kill are in `equivalent_mutants.txt`, with the reason. The command prints all others that
survive, and exits with 1 if there are any. Everything is written under `build/mutation/`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "mutation"
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.txt")
GPU_ALONE = "# ON A GPU ALONE."  # begins the reason of mutants that only a GPU can show
# Each module and the tests that mirror it.
MODULES = {
    "seqgan_env/measures/likelihood.py": ["seqgan_env/measures/test_likelihood.py", "seqgan_env/test_prompts.py"],
    "seqgan_env/measures/bleu.py": ["seqgan_env/measures/test_bleu.py"],
    "seqgan_env/models/output_layer.py": ["seqgan_env/models/test_output_layer.py"],
    "seqgan_env/models/sampling.py": ["seqgan_env/models/test_sampling.py"],
    "seqgan_env/monte_carlo.py": ["seqgan_env/test_monte_carlo.py"],
    "seqgan_env/mdp.py": ["seqgan_env/test_mdp.py", "seqgan_env/test_prompts.py"],
    "seqgan_env/rewards.py": ["seqgan_env/test_rewards.py", "seqgan_env/test_prompts.py"],
    "seqgan_env/rollout_policies.py": ["seqgan_env/test_rollout_policies.py", "seqgan_env/test_prompts.py"],
    "agents/reinforce.py": ["agents/test_reinforce.py", "agents/test_reinforce_by_hand.py"],
    "agents/adversary.py": ["agents/test_adversary.py"],
    "agents/runs/checkpoints.py": ["agents/runs/test_checkpoints.py"],
}
# Tests that are not run, by a part of their name. A limit of seconds fails on a busy machine, whatever the mutant.
# Whole games take minutes, and files alone show what is wrong with a file. mutmut adds frames that a warning points at.
LEFT_OUT = {
    "seqgan_env/measures/bleu.py": "fraction_of_a_second",
    "agents/reinforce.py": "points_at_the_caller",
    "agents/runs/checkpoints.py": "game or snapshot or attribute or ones_own or configuration",
}
# The tests did not end in six times their usual time and half a minute. A busy machine does this too: `--again`.
KILLED = {1, 3}
TIMED_OUT = {24, 36, 152, 255, -24, -9}
NO_TESTS = {5, 33}


@dataclass(frozen=True)
class Mutant:
    """One change: the module, the function, and the lines before and after."""

    module: str
    function: str
    before: str
    after: str

    def __str__(self) -> str:
        lines = [f"- {line}" for line in self.before.splitlines()] + [f"+ {line}" for line in self.after.splitlines()]
        return "\n".join([f"{self.module} {self.function}", *lines])


def folder_of(module: str) -> Path:
    return FOLDER / module.removesuffix(".py").replace("/", ".")


def prepare(module: str, again: bool) -> None:
    """Make a folder with a copy of the sources, the tests, and mutmut's settings for one module."""
    folder = folder_of(module)
    if not again:
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("seqgan_env", "agents", "tests"):
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    settings = {
        "source_paths": ["seqgan_env", "agents"],
        "only_mutate": [module],
        "pytest_add_cli_args": ["-n", "0", "-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": [f"tests/{name}" for name in MODULES[module]],
        "timeout_multiplier": 6.0,
        "timeout_constant": 5.0,
        "use_git_change_detection": False,
        "track_dependencies": False,
    }
    values = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text("\n".join([project, "[tool.mutmut]", *values, ""]), encoding="utf-8")
    shutil.rmtree(folder / "mutants" / "tests", ignore_errors=True)


def run_mutmut(arguments: list[str]) -> None:
    """mutmut in this process and folder, with its two changes."""
    sys.path.pop(0)  # this file's folder: it holds other folders that are called as the packages are
    import libcst
    import libcst.matchers as m
    from mutmut.__main__ import cli
    from mutmut.mutation import file_mutation

    visitor = file_mutation.MutationVisitor
    skips = visitor._skip_node_and_children
    no_grad = m.Decorator(decorator=m.Call(func=m.Attribute(value=m.Name("torch"), attr=m.Name("no_grad"))))

    def skips_messages_but_not_no_grad(self: object, node: libcst.CSTNode) -> bool:
        if isinstance(node, libcst.FunctionDef) and all(m.matches(one, no_grad) for one in node.decorators):
            return False
        if isinstance(node, libcst.Arg) and node.keyword is not None and node.keyword.value == "hint":
            return True
        if isinstance(node, libcst.Raise):
            self.words = {id(one) for one in m.findall(node, m.SimpleString())} | getattr(self, "words", set())
        return id(node) in getattr(self, "words", set()) or skips(self, node)

    visitor._skip_node_and_children = skips_messages_but_not_no_grad
    cli(arguments)


def outcomes(module: str) -> dict[str, int | None]:
    """Exit status of the tests with each mutant, by its name; None where it was not tried."""
    with open(folder_of(module) / "mutants" / f"{module}.meta", encoding="utf-8") as file:
        statuses: dict[str, int | None] = json.load(file)["exit_code_by_key"]
    return statuses


def described(module: str, name: str) -> Mutant:
    """The lines that a mutant changes, from mutmut's copies of the function."""
    folder = folder_of(module) / "mutants"
    with open(folder / f"{module}.spans", encoding="utf-8") as file:
        spans = json.load(file)["spans"]
    source = (folder / module).read_text(encoding="utf-8").splitlines()
    own = name.rsplit(".", 1)[1]
    original = own.rsplit("__mutmut_", 1)[0] + "__mutmut_orig"
    before, after = (
        [line.strip() for line in source[spans[key][0] - 1 : spans[key][1]] if not line.strip().startswith("def ")]
        for key in (original, own)
    )
    while before and after and before[0] == after[0]:
        before, after = before[1:], after[1:]
    while before and after and before[-1] == after[-1]:
        before, after = before[:-1], after[:-1]
    function = original.removesuffix("__mutmut_orig").removeprefix("x").strip("_ǁ").replace("ǁ", ".")
    return Mutant(module, function, "\n".join(before), "\n".join(after))


@dataclass(frozen=True)
class Equivalent:
    """What `equivalent_mutants.txt` lists: single mutants, and changes of text that no test can see in any place."""

    mutants: set[Mutant]
    changes: list[tuple[str, str, str]]  # module or "", text before, text after

    def __contains__(self, mutant: Mutant) -> bool:
        old, new = mutant.before, mutant.after
        return mutant in self.mutants or any(
            old[:at] + after + old[at + len(before) :] == new
            for module, before, after in self.changes
            for at in range(len(old))
            if old.startswith(before, at) and module in ("", mutant.module)
        )


def equivalent_mutants(text: str) -> Equivalent:
    """Read "# reason", then lines "* module before => after", or a mutant's place, "- before" and "+ after"."""
    found = Equivalent(set(), [])
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if lines and lines[0].startswith("* "):
            found.changes.extend(_change(line[2:]) for line in lines)
        elif lines:
            module, function = lines[0].split(" ")
            before = "\n".join(line[2:] for line in lines if line.startswith("- "))
            after = "\n".join(line[2:] for line in lines if line.startswith("+ "))
            found.mutants.add(Mutant(module, function, before, after))
    return found


def survivors(module: str, killed: set[int]) -> dict[str, int | None]:
    """Name and status of each mutant whose status is none of `killed`; equivalent ones are among them."""
    return {name: status for name, status in outcomes(module).items() if status not in killed}


def _change(line: str) -> tuple[str, str, str]:
    """ "module before => after" or "before => after" in its three parts."""
    before, _, after = line.partition(" => ")
    module, _, rest = before.partition(" ")
    return (module, rest, after) if module in MODULES else ("", before, after)


def report(modules: list[str]) -> bool:
    """Print the mutants to look at and the table; whether every mutant is killed or listed."""
    blocks = EQUIVALENT.read_text(encoding="utf-8").split("\n\n")
    gpu_alone = equivalent_mutants("\n\n".join(block for block in blocks if block.startswith(GPU_ALONE)))
    equivalent = equivalent_mutants("\n\n".join(block for block in blocks if not block.startswith(GPU_ALONE)))
    rows = []
    for module in modules:
        statuses, alive = outcomes(module), survivors(module, KILLED | TIMED_OUT)
        mutants = {name: described(module, name) for name in alive}
        on_gpu = {name for name, mutant in mutants.items() if mutant in gpu_alone}
        same = {name for name, mutant in mutants.items() if mutant in equivalent} - on_gpu
        left = {name: status for name, status in alive.items() if name not in on_gpu | same}
        for name, status in left.items():
            why = {None: "not tried", 0: "survived"} | dict.fromkeys(NO_TESTS, "no test runs it")
            print(f"\n# {name}: {why.get(status, f'status {status}')}\n{mutants[name]}")
        killed, late = len(statuses) - len(alive), sum(status in TIMED_OUT for status in statuses.values())
        rows.append((module, len(statuses), killed, late, len(same), len(on_gpu), len(left)))
    print("\n| module | mutants | killed | of these by time | equivalent | on a GPU alone | survived |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    return all(row[-1] == 0 for row in rows)


def main() -> None:
    if sys.argv[1:2] == ["--mutmut"]:
        run_mutmut(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", nargs="?", choices=list(MODULES), help="a module; all of them if left out")
    parser.add_argument("--again", action="store_true", help="only the mutants that survived or ran out of time")
    parser.add_argument("--report", action="store_true", help="run nothing; print the table of the runs that are there")
    arguments = parser.parse_args()
    modules = [arguments.module] if arguments.module else list(MODULES)
    for module in [] if arguments.report else modules:
        names = list(survivors(module, KILLED)) if arguments.again else []
        prepare(module, arguments.again)
        if names or not arguments.again:
            command = [sys.executable, __file__, "--mutmut", "run", "--max-children", "1", *names]
            left_out = f"-k 'not ({LEFT_OUT[module]})'" if module in LEFT_OUT else ""
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": left_out}
            subprocess.run(command, cwd=folder_of(module), env=environment, check=False)
    sys.exit(not report(modules))


if __name__ == "__main__":
    main()
