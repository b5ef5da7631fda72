"""The labs: their form, what their checks say, and, marked `course`, that both versions of each do what they should."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from examples.course import build, checks, searches

LABS = build.lab_files()
TABLE = r"^\| lab \|.*\n((?:\|.*\n)+)"
needs_course = pytest.mark.skipif(
    importlib.util.find_spec("otter") is None or importlib.util.find_spec("jupytext") is None,
    reason='needs pip install "seqgan-gym[course]"',
)


def questions(source: str) -> list[str]:
    """What stands between the begin and the end of each question."""
    return re.findall(r"# # BEGIN QUESTION\n(.*?)# # END QUESTION", source, flags=re.DOTALL)


def test_there_are_ten_labs() -> None:
    assert [lab.stem[:5] for lab in LABS] == [f"lab{number:02d}" for number in range(1, 11)]


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
def test_a_lab_has_goals_theory_questions_and_a_picture(lab: Path) -> None:
    source = lab.read_text(encoding="utf-8")
    assert f"# name: {lab.stem}\n" in source
    for part in ("**You learn**", "**Time**", "**You need**", "plt.show()"):
        assert part in source
    assert "## Theory" in source or "## What an honest report has" in source
    assert len(questions(source)) >= 3
    for question in questions(source):
        solution, tests = question.split("# # BEGIN TESTS")
        assert "SOLUTION" in solution.replace("# # BEGIN SOLUTION", "").replace("# # END SOLUTION", "")
        assert tests.count("# HIDDEN") >= 1
        assert tests.count("# %%\ndef test") >= 1  # a public test


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
def test_every_assertion_of_a_lab_says_what_to_look_at(lab: Path) -> None:
    for question in questions(lab.read_text(encoding="utf-8")):
        tests = question.split("# # BEGIN TESTS")[1]
        for line in tests.splitlines():
            if line.strip().startswith("assert "):
                assert re.search(r', (f?["\']|look)', line), line


def test_both_tables_of_the_guide_begin_with_the_numbers_of_labs() -> None:
    guide = (Path(build.HERE).parents[1] / "docs" / "course.md").read_text(encoding="utf-8")
    labs, errors = (
        [row.split("|")[1].strip() for row in rows.splitlines()[1:]] for rows in re.findall(TABLE, guide, re.M)
    )
    assert labs == [str(number) for number in range(1, 11)]
    assert errors == sorted(errors, key=int)
    assert set(errors) == set(labs)


def test_an_unknown_lab_is_named() -> None:
    with pytest.raises(ValueError, match="lab='lab77' is not there; choose of"):
        build.lab_files(["lab77"])
    assert [lab.stem for lab in build.lab_files(["lab03"])] == ["lab03_policy_gradient"]


@pytest.mark.parametrize("answer", [None, ...])
def test_a_missing_answer_is_said_to_be_missing(answer: Any) -> None:
    with pytest.raises(AssertionError, match=r"no answer yet.*Look at Eq\. 4"):
        checks.close(answer, 1.0, "Look at Eq. 4.")
    with pytest.raises(AssertionError, match="no answer yet"):
        checks.parts(answer, 2, "Look at Eq. 4.")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (0.5, "is 0.5, which is not right. Look"),
        ([1.0, 2.0], r"has shape \(2,\), expected \(\). Look"),
        ("a", "is of type str, expected numbers. Look"),
        (float("nan"), "not finite"),
        (torch.tensor(0.9), "is 0.9, which"),
    ],
)
def test_a_wrong_answer_is_told_where_to_look(answer: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        checks.close(answer, 1.0, "Look at Eq. 4.")
    checks.close(1.0005, 1.0, "")
    checks.close(torch.tensor([1.0, 2.0]), np.array([1, 2]), "")


def test_the_place_of_a_wrong_entry_is_named() -> None:
    with pytest.raises(AssertionError, match=r"is 5 at place \[1, 0\]"):
        checks.close([[1, 2], [5, 4]], [[1, 2], [3, 4]], "")


def test_an_error_in_a_students_function_is_told_with_its_name() -> None:
    def broken(x: int) -> float:
        return x / 0

    with pytest.raises(AssertionError, match="Your function broken raised ZeroDivisionError: division by zero"):
        checks.ask(broken, 1)
    with pytest.raises(AssertionError, match="no function of this name yet"):
        checks.ask(None, 1)
    assert checks.ask(abs, -1) == 1
    with pytest.raises(AssertionError, match="Return 2 things"):
        checks.parts((1, 2, 3), 2, "")


def test_an_answer_of_another_kind_is_told_where_to_look() -> None:
    for wrong, said in ((None, "no answer yet"), (3, "is of type int, expected dict"), ({"a": 1}, "has no key 'mean'")):
        with pytest.raises(AssertionError, match=f"{said}.*Look at Eq. 4"):
            checks.entry(wrong, "mean", "Look at Eq. 4.")
    assert checks.entry({"mean": 0.5}, "mean", "") == 0.5
    for answer in ("d", "ab", "", 1):
        with pytest.raises(AssertionError, match=r'one letter of a, b, c, in quotes, as in "a"\. Look'):
            checks.letter(answer, "abc", "Look at the curve.")
    assert checks.letter("b", "abc", "") == "b"
    for vector in ([1.0], "x", {"a": 1}):
        with pytest.raises(AssertionError, match=r"expected (\(\)|numbers)\. Look"):
            checks.number(vector, "Look.")
    assert checks.number(torch.tensor(0.5, requires_grad=True), "") == 0.5


def test_a_students_test_must_pass_for_the_right_and_fail_for_the_wrong() -> None:
    def positive(x: int) -> None:
        if x <= 0:
            raise AssertionError("not positive")

    checks.raises_nothing(positive, 1, "")
    checks.catches(positive, -1, "")
    with pytest.raises(AssertionError, match=r"fails for a correct implementation, with 'not positive'\. Look"):
        checks.raises_nothing(positive, -1, "Look.")
    with pytest.raises(AssertionError, match=r"passes for an implementation with a mistake\. Look"):
        checks.catches(positive, 1, "Look.")
    with pytest.raises(AssertionError, match="no test of this name yet"):
        checks.catches(None, 1, "Look.")
    with pytest.raises(AssertionError, match=r"Your test positive raised TypeError for an implementation: .*`assert`"):
        checks.raises_nothing(positive, "text", "Look.")


def cells(lab: Path) -> Iterator[tuple[bool, str]]:
    """The code cells of a lab with its solutions: whether a cell is a check, and its text."""
    source = lab.read_text(encoding="utf-8")
    parts = re.split(r"^# %%(.*)\n", source, flags=re.MULTILINE)
    in_tests = False
    for kind, text in zip(parts[1::2], parts[2::2], strict=True):
        if "BEGIN TESTS" in text or "END TESTS" in text:
            in_tests = "BEGIN TESTS" in text
        if not kind.strip():
            yield in_tests, text


@pytest.fixture
def beside_the_labs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The modules beside a notebook can be imported, pictures open no window, files go to a folder of their own."""
    monkeypatch.setitem(sys.modules, "searches", searches)
    monkeypatch.setitem(sys.modules, "checks", checks)
    open_no_windows()
    monkeypatch.chdir(tmp_path)


def open_no_windows() -> None:
    """Choose a backend without windows. `gymnasium.utils.play`, once imported, has chosen Tk for the whole process."""
    pytest.importorskip("matplotlib").use("agg", force=True)


def wrong_answers() -> list[Any]:
    """What may stand in place of a number, an array, a list, a letter, a dictionary, a learner or a function."""

    def returns(answer: Any) -> Callable[..., Any]:
        return lambda *arguments: answer

    def raises(*arguments: Any) -> None:
        raise KeyError("a mistake of the student")

    answers = [
        None,
        ...,
        "text",
        -7.0,
        float("nan"),
        (1.0, 2.0),
        [],
        [3, "b"],
        {"MLE": 1.0},
        object(),
        torch.zeros(2, 3),
    ]
    return [*answers, *map(returns, answers), raises]


def said_of(check: Callable[..., None], names: dict[str, Any], parameter: str, answer: Any) -> str | None:
    """What a check says if one of the answers is replaced; None if nothing.

    Raises:
        AssertionError: if it raises anything but an AssertionError with a message.
    """
    kept = names.get(parameter)
    names[parameter] = answer
    try:
        check(**{name: names if name == "env" else names.get(name) for name in inspect.signature(check).parameters})
        said = None
    except AssertionError as error:
        said = str(error)
    except Exception as error:
        raise AssertionError(f"{check.__name__} with {parameter}={answer!r} raised {error!r}") from error
    finally:
        names[parameter] = kept
    assert said is None or len(said) > 20, f"{check.__name__}: {said!r}"
    return said


QUICK_LABS = ("lab01", "lab04", "lab08")


@pytest.mark.parametrize(
    "lab",
    [pytest.param(lab, marks=() if lab.stem[:5] in QUICK_LABS else pytest.mark.course, id=lab.stem) for lab in LABS],
)
def test_whatever_a_student_answers_the_checks_say_where_to_look(lab: Path, beside_the_labs: None) -> None:
    names: dict[str, Any] = {"__name__": "lab"}
    heard: dict[tuple[str, int], list[str]] = {}
    for is_check, text in cells(lab):
        if not is_check:
            exec(text, names)
            continue
        own: dict[str, Any] = {}
        exec(text, names, own)
        (check,) = own.values()
        for parameter in set(inspect.signature(check).parameters) - {"env"}:
            for number, answer in enumerate(wrong_answers()):
                said = said_of(check, names, parameter, answer)
                heard.setdefault((parameter, number), []).extend([said] if said else [])
    assert heard
    unheard = [(parameter, wrong_answers()[number]) for (parameter, number), said in heard.items() if not said]
    assert unheard == []


def cells_with_solutions(lab: Path, until: str) -> SimpleNamespace:
    """The names that a lab's cells define, without its tests, up to the cell that begins with `until`."""
    names: dict[str, Any] = {"__name__": "lab"}
    for is_check, text in cells(lab):
        if text.startswith(until):
            break
        if not is_check:
            exec(text, names)
    return SimpleNamespace(**names)


@pytest.fixture(scope="module")
def lab_8() -> SimpleNamespace:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "searches", searches)
        open_no_windows()
        return cells_with_solutions(build.lab_files(["lab08"])[0], until="tests = (")


TESTS_OF_LAB_8 = {
    "test_rewards_are_in_their_places": searches.SearchA,
    "test_rollout_policy_follows": searches.SearchB,
    "test_scores_are_the_same_twice": searches.SearchC,
    "test_last_step_is_scored_once": searches.SearchD,
    "test_more_real_is_paid_more": searches.SearchE,
}


@pytest.mark.parametrize("name", TESTS_OF_LAB_8)
def test_each_mistake_of_lab_8_is_caught_by_its_model_test_alone(lab_8: SimpleNamespace, name: str) -> None:
    test = getattr(lab_8, name)
    test(searches.Search)  # the right one passes
    with pytest.raises(AssertionError):
        test(TESTS_OF_LAB_8[name])
    others = [other for other in TESTS_OF_LAB_8 if other not in (name, "test_rewards_are_in_their_places")]
    for other in others:  # the narrow tests are silent: no other test would have found it
        getattr(lab_8, other)(TESTS_OF_LAB_8[name])


def test_the_right_search_of_lab_8_estimates_the_exact_action_values(lab_8: SimpleNamespace) -> None:
    generator, discriminator, sequences = lab_8.small_world()
    found = searches.Search(generator, discriminator, n_rollouts=2000, seed=3)(sequences).numpy()
    assert np.abs(found - lab_8.exact[lab_8.rows]).max() < 5 * 0.5 / np.sqrt(2000)


@pytest.mark.course
@needs_course
@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
def test_the_solutions_get_all_points_and_the_empty_notebook_none(lab: Path, tmp_path: Path) -> None:
    build.build(lab, tmp_path)
    folder = tmp_path / "student" / lab.stem
    tests = sorted(folder.glob("tests/*.py"))
    assert [file.stem for file in tests] == [f"q{number}" for number in range(1, len(tests) + 1)]
    for file in (folder / f"{lab.stem}.ipynb", *tests):
        text = file.read_text(encoding="utf-8")
        assert "SOLUTION" not in text
        assert "hidden=True" not in text
    line = build.check(lab.stem, tmp_path)
    assert "solutions all, empty none" in line


@pytest.mark.course
@needs_course
def test_the_checks_run_in_the_kernel_of_colab(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    lab = build.lab_files(["lab01"])[0]
    build.build(lab, tmp_path)
    folder = tmp_path / "student" / lab.stem
    notebook = nbformat.read(folder / f"{lab.stem}.ipynb", as_version=4)
    as_colab = 'import otter.check.utils\notter.check.utils.get_ipython = lambda: "<google.colab._shell.Shell>"'
    notebook.cells.insert(0, nbformat.v4.new_code_cell(as_colab))
    NotebookClient(notebook, timeout=300, allow_errors=True, resources={"metadata": {"path": folder}}).execute()
    said = [output for cell in notebook.cells for output in cell.get("outputs", []) if "grader." in cell.source]
    texts = [output.get("data", {}).get("text/plain", "") for output in said]
    assert [output.output_type for output in said] == ["execute_result"] * len(said)
    assert sum("There is no answer yet" in text for text in texts) == len(said) == 5  # four questions, and all again


@pytest.mark.course
@needs_course
def test_one_command_builds_both_versions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build.main([str(tmp_path), "lab01", "lab08"])
    assert capsys.readouterr().out.splitlines()[-1] == f"built 2 labs in {tmp_path}"
    for lab in ("lab01_mdp", "lab08_find_the_bug"):
        assert (tmp_path / "student" / lab / "checks.py").is_file()
        assert (tmp_path / "instructor" / lab / f"{lab}-autograder.zip").is_file()
