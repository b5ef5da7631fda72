"""The live page: a run, seen while it is trained. `views` computes, `figures` draws, `page` is what the browser shows."""
