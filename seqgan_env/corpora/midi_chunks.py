"""Reads chunks of a MIDI file, for facts that its reader does not give: separate sequences, notes without an end.

In: bytes. Out: bytes, numbers. A damaged file raises no error here; the reader raises it.
"""

from __future__ import annotations

from collections.abc import Iterator

_PERCUSSION = 9  # channel, counted from 0
_DATA_BYTES = {0xC0: 1, 0xD0: 1}  # data bytes of a message, by its kind; all others have two
_SYSTEM_COMMON = {0xF1: 1, 0xF2: 2, 0xF3: 1}


def independent_sequences(data: bytes) -> list[bytes]:
    """The sequences of a file of type 2, each as a separate file; for another type the file itself.

    The tracks of type 0 and 1 sound together. The tracks of type 2 are separate pieces.
    """
    if data[8:10] != b"\0\2":
        return [data]
    header = b"MThd\0\0\0\6\0\0\0\1" + data[12:14]
    return [header + data[start - 8 : stop] for start, stop in _tracks(data)] or [data]


def count_note_ons(data: bytes) -> int:
    """Number of notes that begin in a file, with or without an end; without percussion."""
    return sum(_track_note_ons(data, start, stop) for start, stop in _tracks(data))


def _tracks(data: bytes) -> Iterator[tuple[int, int]]:
    """The beginning and end of the content of each track, as positions in the file."""
    place = 8 + int.from_bytes(data[4:8], "big")
    while place + 8 <= len(data):
        start = place + 8
        stop = start + int.from_bytes(data[place + 4 : start], "big")
        if data[place : place + 4] == b"MTrk":
            yield start, min(stop, len(data))
        place = stop


def _track_note_ons(data: bytes, place: int, stop: int) -> int:
    count = status = 0
    try:
        while place < stop:
            _, place = _variable_length(data, place)
            if data[place] >= 0x80:
                status = data[place]
                place += 1
            if status in (0xFF, 0xF0, 0xF7):
                if status == 0xFF and data[place] == 0x2F:  # end of track
                    break
                length, place = _variable_length(data, place + (status == 0xFF))
                place += length
            elif status >= 0xF0:
                place += _SYSTEM_COMMON.get(status, 0)
            else:
                is_note = status & 0xF0 == 0x90 and status & 0x0F != _PERCUSSION
                count += is_note and data[place + 1] > 0  # velocity 0 ends a note
                place += _DATA_BYTES.get(status & 0xF0, 2)
    except IndexError:  # cut off
        pass
    return count


def _variable_length(data: bytes, place: int) -> tuple[int, int]:
    """A number with seven bits per byte, and the place after it."""
    value = 0
    while True:
        byte = data[place]
        value, place = (value << 7) | (byte & 0x7F), place + 1
        if byte < 0x80:
            return value, place
