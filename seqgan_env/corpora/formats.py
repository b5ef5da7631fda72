"""Kinds of files that hold no plain text, recognised by their suffix. Each is refused, with a way to convert it.

In: a path. Out: nothing, or a `CorpusError`. A file with a suffix that is not listed here is read, and its content
decides.
"""

from __future__ import annotations

from pathlib import Path

from seqgan_env.corpora.corpus import CorpusError

_UNPACK = "is packed; unpack it first, such as: gunzip FILE, unzip FILE, tar -xf FILE"
_DOCUMENT = "is a document with its own format; convert it, such as: pandoc -t plain -o corpus.txt FILE"
_SHEET = "is a spreadsheet; export it as CSV, and name the column of the text (column, --column)"
_TABLE = "is a table in a binary format; export it as Parquet, CSV or JSONL, and name the column (column, --column)"
_ARRAYS = "holds arrays or objects, not text; write the text to a .txt file, one sequence per line"
_PICTURE = "is a picture or a recording, not text; give a UTF-8 text file"
_MUSIC = "is music, not text; use the music task: seqgan train music --corpus FILE"
_SCORE = "is a score in another format; export it as MIDI, such as: mscore -o tune.mid FILE"
_SOUND = "is a recording, not a score; give MIDI, ABC or a text of notes"

_PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".tar", ".tgz", ".7z", ".rar")
_SOUNDS = (".wav", ".mp3", ".ogg", ".flac", ".m4a", ".aac", ".mp4")
_SCORES = (".musicxml", ".mxl", ".xml", ".mscz", ".mscx", ".krn", ".mei", ".ly", ".gp5", ".sib")
_NOT_TEXT = {
    ".json": "is JSON, but each line must be one object; convert it: jq -c '.[]' FILE > FILE.jsonl, "
    "and name the column of the text (column, --column)",
    ".pdf": "is a PDF document; convert it: pdftotext FILE corpus.txt",
    **dict.fromkeys(_PACKED, _UNPACK),
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".epub", ".html", ".htm", ".xml", ".mobi"), _DOCUMENT),
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), _SHEET),
    **dict.fromkeys((".arrow", ".feather", ".orc", ".avro", ".db", ".sqlite", ".sqlite3", ".duckdb"), _TABLE),
    **dict.fromkeys((".npy", ".npz", ".pt", ".pth", ".pkl", ".pickle", ".safetensors", ".h5", ".bin"), _ARRAYS),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".webp", ".tif", ".tiff", *_SOUNDS), _PICTURE),
    **dict.fromkeys((".mid", ".midi", ".abc", *_SCORES), _MUSIC),
    ".xml": _DOCUMENT,
}
_NOT_TUNES = {
    **dict.fromkeys(_PACKED, _UNPACK),
    **dict.fromkeys(_SCORES, _SCORE),
    **dict.fromkeys(_SOUNDS, _SOUND),
}


def expect_text(path: Path) -> None:
    """Raise CorpusError, with a way to convert it, if a file's suffix is that of a format other than plain text."""
    _expect(path, _NOT_TEXT)


def expect_tunes(path: Path) -> None:
    """Raise CorpusError, with a way to convert it, if a file's suffix is that of another score or recording."""
    _expect(path, _NOT_TUNES)


def _expect(path: Path, refused: dict[str, str]) -> None:
    said = refused.get(path.suffix.lower())
    if said is not None:
        raise CorpusError(said, path)
