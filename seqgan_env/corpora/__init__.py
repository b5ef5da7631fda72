"""Reading corpora: files, splits, lines, tokens, tunes and melodies."""
