"""The live page of a run: `views` computes, `figures` draws, `page` is what the browser shows, `server` shows it."""
