"""ABC tunes as text: removes directives that read other files, and ornaments that abc2midi would play.

In: bytes of a tune. Out: bytes of a tune, and a record of the removed parts.

Files. abc2midi opens the file that %%abc-include names, and the file that the command "ptstress" of %%MIDI names (also
in I: fields, comments and %%MIDIdef macros). Both are removed, in every case and spelling. Nothing else in a tune makes
it open a file or start a program.

Ornaments. abc2midi plays them in place of the written note: a trill becomes a run, grace notes take time from the note,
a staccato note becomes a short one and a rest, a fermata doubles its note. A generator of melodies learns the written
notes, so these are removed: grace notes {...}, decorations !...! and +...+, the signs . ~ ' H L M O P R S T u v,
letters that a U: field defines, and the %%MIDI commands that change how long a note sounds or add notes to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from seqgan_env.corpora.decoding import BYTE_ORDER_MARK

# scanf ignores white space before each % and between "include" and the name. So does this pattern; it also ignores
# case.
_INCLUDE = re.compile(rb"(?i)^[^\S\n]*%[^\S\n]*%abc-include[^\n]*", re.MULTILINE)
_STRESS_FILE = re.compile(rb"(?im)^[ \t]*%%[^\n]*ptstress[^\n]*|ptstress[^\n]*")
_FIELD = re.compile(rb"\s*[ABCDEFGHIKLMNOPQRSTUVdwsWXZ+][ \t]*:(?![:|])")
_KEY = re.compile(rb"\s*K[ \t]*:")
_ABBREVIATION = re.compile(rb"(?:^|\[)U[ \t]*:[ \t]*([h-rtwIJKNQUVWY])[ \t]*=", re.MULTILINE)
_PERFORMANCE = re.compile(
    rb"(?:^%%|I[ \t]*:[ \t]*)MIDI[ \t=]+(?:trim|expand|chordattack|randomchordattack|droneon|stressmodel)\b[^\]\n]*",
    re.MULTILINE,
)
_TEXT_BEGINS, _TEXT_ENDS = re.compile(rb"%%begin(?:text|ps)"), re.compile(rb"%%end(?:text|ps)")
# A line of music, from left to right: first the parts that are kept, then the ornaments.
_MUSIC = re.compile(
    rb"""(?P<kept>
        %.*                                       # a comment
        | "(?:\\"|[^"])*"?                        # a chord symbol or words; \" does not end them
        | \[[A-Za-z]:[^\]]*\]?                    # a field within the line
        | (?:\^{1,2}|_{1,2}|=)?[A-Ga-g][,']*      # a note: ' after it is an octave
    )
    | (?P<ornament>
        \{[^{}]*\}                                # grace notes
        | ![^!]*! | \+[^+]*\+                     # decorations with a name
        | [.~'HLMOPRSTuv]                         # decorations of one letter
    )
    | (?P<letter>[h-rtwIJKNQUVWY])              # perhaps an abbreviation of a U: field
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class PlainTune:
    """An ABC tune, and a record of the removed parts.

    Attributes:
        abc: bytes of the tune without them.
        ornaments: number of removed marks; grace notes in one pair of braces are one mark.
        refused: the directives that would have read another file.
    """

    abc: bytes
    ornaments: int
    refused: tuple[str, ...]


def split_tunes(data: bytes) -> tuple[bytes, list[bytes]]:
    """Split an ABC file into the header before its first tune, and its tunes, each from X: on; lines end with \
    .

    A byte-order mark at the beginning of a line is left out. It may also stand inside a file that was joined from
    several.
    """
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    data = re.sub(rb"(?m)^" + BYTE_ORDER_MARK, b"", data)
    header, *tunes = re.split(rb"(?m)^(?=X:)", data)
    return header, tunes


def plain_tune(abc: bytes, keep_ornaments: bool = False) -> PlainTune:
    """A tune without directives that read files and, by default, without ornaments."""
    refused: list[str] = []

    def refuse(match: re.Match[bytes]) -> bytes:
        refused.append(match.group().decode("utf-8", "replace").strip()[:100])
        return b"%"

    abc = _STRESS_FILE.sub(refuse, _INCLUDE.sub(refuse, abc))
    if keep_ornaments:
        return PlainTune(abc, 0, tuple(refused))
    plain, ornaments = _without_ornaments(abc)
    return PlainTune(plain, ornaments, tuple(refused))


def _without_ornaments(abc: bytes) -> tuple[bytes, int]:
    """A tune without ornaments, and how many there were."""
    abc, count = _PERFORMANCE.subn(lambda match: b"%" if match.group().startswith(b"%") else b"I:", abc)
    letters = set(_ABBREVIATION.findall(abc))

    def keep(match: re.Match[bytes]) -> bytes:
        nonlocal count
        if match["kept"] is not None or (match["letter"] is not None and match["letter"] not in letters):
            return match.group()
        count += 1
        return b""

    lines = abc.split(b"\n")
    in_music = in_text = False
    for number, line in enumerate(lines):
        in_text = bool(_TEXT_BEGINS.match(line)) or (in_text and not _TEXT_ENDS.match(line))
        if _FIELD.match(line):
            in_music = in_music or _KEY.match(line) is not None
        elif not line.strip():  # an empty line ends the music
            in_music = False
        elif in_music and not in_text and not line.lstrip().startswith((b"%", b"\\")):
            lines[number] = _MUSIC.sub(keep, line)
    return b"\n".join(lines), count
