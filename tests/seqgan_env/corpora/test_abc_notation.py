"""`corpora.abc_notation`: an ABC tune reads no other file, its written notes are read, and no tune is lost."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqgan_env.corpora.abc_notation import plain_tune, split_tunes
from seqgan_env.corpora.corpus import CorpusError
from seqgan_env.corpora.tunes import Grid, Tune, read_tunes, symbol_name, symusic_library
from seqgan_env.tasks.music import music_task

QUAVERS, PLAYED = Grid(0.5, in_beats=True), Grid(0.5, in_beats=True, plays_ornaments=True)
HEAD = "X:1\nT:t\nM:4/4\nL:1/8\nK:C\n"


def tune(folder: Path, body: str, grid: Grid = QUAVERS, head: str = HEAD) -> Tune:
    """The one tune of a file."""
    pytest.importorskip("symusic")
    path = folder / "tune.abc"
    path.write_text(head + body + "\n", encoding="utf-8")
    ((found,), errors) = read_tunes(path, grid)
    assert errors == []
    return found


def notes(found: Tune) -> str:
    return " ".join(symbol_name(symbol) for symbol in found.symbols.tolist())


# --- ornaments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "plain", "count"),
    [
        ("TC4 D4", "C4 D4", 1),
        ("{cd}C2 {e}D2", "C2 D2", 2),
        ("{/c}C2 D2", "C2 D2", 1),
        (".C2 .D2", "C2 D2", 2),
        ("~C2 D2", "C2 D2", 1),
        ("RC4 D4", "C4 D4", 1),
        ("uC vD MC PD LC OD SC", "C D C D C D C", 7),
        ("HC2 D2", "C2 D2", 1),
        ("C!fermata!D E2", "C D E2", 1),
        ("!trill!C4 +trill+D4", "C4 D4", 2),
        ("!p!C2 !<(!D2 !<)!E2", "C2 D2 E2", 3),
        ("T{cd}C2 D2", "C2 D2", 2),  # abc2midi takes this for an error and plays the grace notes
        ("C2T D2 S|: E2 :|", "C2 D2 |: E2 :|", 2),
        (".[CE]2 [.G.c]2", "[CE]2 [Gc]2", 3),
        (".(C2 D2) .| E2", "(C2 D2) | E2", 2),
        ("nC4 D4\nU: n = !trill!\nnE4", "C4 D4\nE4", 2),
        ("%%MIDI trim 1/4\nC2 D2", "C2 D2", 1),
        ("[I:MIDI trim 1/4]C2 D2", "C2 D2", 1),
        ("%%MIDI chordattack 100\n[CEG]4", "[CEG]4", 1),
        ("%%MIDI droneon\nC2 D2", "C2 D2", 1),
    ],
)
def test_the_written_notes_are_read_and_ornaments_are_counted(
    tmp_path: Path, body: str, plain: str, count: int
) -> None:
    with_ornaments, without = tune(tmp_path, body), tune(tmp_path, plain)
    assert notes(with_ornaments) == notes(without)
    assert (with_ornaments.ornaments, with_ornaments.polyphonic_steps) == (count, without.polyphonic_steps)
    assert (without.ornaments, without.repaired) == (0, False)


@pytest.mark.parametrize(
    ("body", "played"),
    [
        ("TC4 D2", "D4 D4 D4 D4 D4 hold"),
        ("{cd}C2 {e}D2", "C5 C4 E5 D4"),
        (".C2 D2", "C4 rest D4 hold"),
        ("HC2 D2", "C4 hold hold hold D4 hold"),
    ],
)
def test_ornaments_can_be_played_as_before(tmp_path: Path, body: str, played: str) -> None:
    found = tune(tmp_path, body, PLAYED)
    assert notes(found) != notes(tune(tmp_path, body))
    assert notes(found) == played
    assert found.ornaments == 0


@pytest.mark.parametrize(
    "body",
    [
        '"Tr. (H.M.)"C2 "^rit. {a}"D2',
        "C'2 c''2 C,,2 ^c'2 _B,2 =C2",
        "C2 D2 % T{cd} .~\nE2",
        "C2 D2\nw: T.H.E M~u~v\nE2",
        "[K:G] F2 [M:3/4] G2 [V:1] A2",
        "(3CDE (F2 G2) A>B c<d e-e z2 x2 Z",
        "|: C2 [1 D2 :| [2 E2 |]",
        "C2 \\\nD2",
        "C2 D2\nT: a title. {in} the middle\nM: 3/4\nE2",
        "%%begintext\nT.H.E {words}\n%%endtext\nC2",
        "C2 D2 y $ E2 !\nF2",
    ],
)
def test_what_is_no_ornament_stays_as_it_is(body: str) -> None:
    abc = (HEAD + body + "\n\nT. {words} after the tune\n").encode()
    assert plain_tune(abc).abc == abc
    assert plain_tune(abc).ornaments == 0


def test_ornaments_are_counted_in_the_table(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    tunes = "".join(HEAD.replace("X:1", f"X:{n}") + f"T{'CDEFGABc'[n]}4 {{e}}D4|\n\n" for n in range(8))
    (tmp_path / "a.abc").write_text(tunes)
    options = {"sequence_length": 8, "step_beats": 0.5, "validation": 0.2, "test": 0.2}
    statistics = music_task(tmp_path / "a.abc", **options).statistics
    assert dict(statistics.lines())["ABC ornaments"] == "16 dropped"
    played = music_task(tmp_path / "a.abc", ornaments="play", **options)
    assert dict(played.statistics.lines())["ABC ornaments"] == "0 dropped"
    with pytest.raises(ValueError, match="ornaments='keep' must be one of"):
        music_task(ornaments="keep")


@given(st.text("ABCabcTHuv.~{}!+\"[]'|:z23/()%\\ \nU=nK", max_size=60))
def test_stripping_once_is_enough_and_never_fails(body: str) -> None:
    once = plain_tune((HEAD + body).encode())
    assert once.ornaments >= 0
    assert once.abc.count(b"\n") == (HEAD + body).count("\n")  # abc2midi's line numbers stay right


# --- other files -----------------------------------------------------------------------------------------------------

INCLUDES = [
    "%%abc-include {}",
    "  %%abc-include {}",
    "\t%%abc-include\t{}",
    "% %abc-include {}",
    " \x0b%\x0c%abc-include {}",
    "%%abc-include{}",
]


def plays_the_secret(folder: Path, abc: bytes) -> bool:
    """Whether abc2midi, called with these bytes as they are, makes notes of the file that they name."""
    (folder / "raw.abc").write_bytes(abc)
    (folder / "raw.mid").unlink(missing_ok=True)
    program = os.environ["SYMUSIC_ABC2MIDI"]
    subprocess.run([program, "raw.abc", "-o", "raw.mid"], cwd=folder, capture_output=True, check=False, timeout=10)
    midi = symusic_library().Score.from_midi((folder / "raw.mid").read_bytes())
    return any(note.pitch == 96 for track in midi.tracks for note in track.notes)


@pytest.mark.parametrize("directive", [*INCLUDES, "%%ABC-Include {}"])
@pytest.mark.parametrize("place", ["head", "body", "before"])
def test_no_other_file_is_read_however_the_directive_is_spelled(tmp_path: Path, directive: str, place: str) -> None:
    pytest.importorskip("symusic")
    secret = tmp_path / "s"
    secret.write_text("c''8\n" if place == "body" else "")
    line = directive.format(secret)
    head = HEAD.replace("K:C\n", f"{line}\nK:C\n") if place == "head" else HEAD
    abc = (f"{line}\n" if place == "before" else "") + head + (f"{line}\n" if place == "body" else "") + "C2 D2\n"
    if place == "body" and directive in INCLUDES and len(str(secret)) < 80:  # abc2midi's limit
        assert plays_the_secret(tmp_path, abc.encode())  # so this test would see it
    path = tmp_path / "a.abc"
    path.write_bytes(abc.encode())
    ((found,), errors) = read_tunes(path, QUAVERS)
    assert (notes(found), errors) == ("C4 hold D4 hold", [])
    assert found.refused == (line.strip()[:100],)


@pytest.mark.parametrize(
    "directive",
    [
        "%%MIDI ptstress {}",
        "I:MIDI ptstress {}",
        "[I:MIDI ptstress {}]",
        "C %%MIDI ptstress {}",
        "%%MIDIdef a = ptstress {}\n%%MIDIx a",
    ],
)
def test_no_stress_file_is_read(tmp_path: Path, directive: str) -> None:
    abc = (HEAD + directive.format("/dev/zero") + "\nC2 D2\n").encode()
    plain = plain_tune(abc)
    assert b"/dev/zero" not in plain.abc
    assert len(plain.refused) == 1
    assert "/dev/zero" in plain.refused[0]
    assert plain_tune(abc, keep_ornaments=True).abc == plain.abc


def test_a_tune_of_nothing_but_another_file_is_told_with_the_directive(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"tune 1 \(X:1\).*other files are never read.*%%abc-include /etc/passwd"):
        tune(tmp_path, "%%abc-include /etc/passwd")


def test_tunes_that_name_other_files_are_reported(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    tunes = [HEAD.replace("X:1", f"X:{n}") + f"{'CDEFGABc'[n]}8|\n\n" for n in range(8)]
    tunes[2] += "X:99\nT:u\nL:1/8\nK:C\n%%abc-include /etc/passwd\nb8|\n"
    (tmp_path / "a.abc").write_text("".join(tunes))
    task = music_task(tmp_path / "a.abc", sequence_length=8, step_beats=0.5, validation=0.2, test=0.2)
    table = dict(task.statistics.lines())
    assert table["other files, not read"] == "1"
    assert "tune 4 (X:99): %%abc-include /etc/passwd" in task.statistics.refused[0]


# --- byte-order marks ------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_loses_no_tune(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    mark = b"\xef\xbb\xbf"
    one, two = (HEAD.replace("X:1", f"X:{n}").encode() + body for n, body in ((1, b"C2 D2\n\n"), (2, b"E2 F2\n\n")))
    for content in (mark + one + two, mark + one + mark + two, (mark + one + two).replace(b"\n", b"\r\n")):
        for name in ("a.abc", "a.txt"):  # told by its suffix, or by its content
            path = tmp_path / name
            path.write_bytes(content)
            found, errors = read_tunes(path, QUAVERS)
            assert [notes(tune) for tune in found] == ["C4 hold D4 hold", "E4 hold F4 hold"]
            assert errors == []


def test_utf_16_is_told_and_not_read_as_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.abc"
    path.write_bytes((HEAD + "C2\n").encode("utf-16"))
    with pytest.raises(CorpusError, match=r"a\.abc, line 1, byte 0: is UTF-16"):
        read_tunes(path, QUAVERS)


def test_a_mark_inside_a_text_of_notes_is_no_note(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ufeff40 41\n\ufeff42 43\n", encoding="utf-8")
    assert [tune.symbols.tolist() for tune in read_tunes(path, QUAVERS)[0]] == [[40, 41], [42, 43]]


def test_the_header_of_a_file_belongs_to_no_tune() -> None:
    assert split_tunes(b"%abc\r\nM:3/4\r\rX:1\rK:C\rC\r\n\r\nX:2\nK:C\nD") == (
        b"%abc\nM:3/4\n\n",
        [b"X:1\nK:C\nC\n\n", b"X:2\nK:C\nD"],
    )
