"""The live page itself: a marimo notebook, which `server` shows as an app. What it shows is computed in `views`.

Each cell runs again when a value that it reads changes. The clock ticks every two seconds; the cells behind it run only
when the run has logged something or saved a checkpoint.
"""

import marimo

app = marimo.App(width="medium", app_title="SeqGAN: watch a run")


@app.cell
def _():
    import html
    import os
    from pathlib import Path

    import marimo as mo
    import numpy as np

    from agents.runs.run_folder import RunFolder
    from agents.watch import figures, views
    from agents.watch.server import RUN_VARIABLE

    run = RunFolder(Path(os.environ[RUN_VARIABLE]))

    def said(text, size="1rem"):
        """Text as it is: nothing of a run is read as HTML or Markdown, and an address is no link.

        A table would load a text that ends in ".png" from its address, so texts in tables need this too.
        """
        return mo.Html(f'<span style="font-size: {size}">{html.escape(text)}</span>')

    return figures, mo, np, run, said, views


@app.cell
def _(mo, run, said):
    clock = mo.ui.refresh(options=["1s", "2s", "10s"], default_interval="2s", label="look again every")
    follow = mo.ui.switch(value=True, label="follow the run")
    _title = said(f"{run.path.name}: {run.description['task']}", "1.8rem")
    mo.vstack([_title, mo.hstack([clock, follow], justify="start")])
    return clock, follow


@app.cell
def _(mo):
    logged, set_logged = mo.state(None)
    saved, set_saved = mo.state(None)
    seen = {"log": None, "checkpoint": None}
    return logged, saved, seen, set_logged, set_saved


@app.cell
def _(clock, follow, run, seen, set_logged, set_saved, views):
    clock  # a cell runs again when a name that it reads changes
    if follow.value or seen["log"] is None:
        _log, _checkpoint = views.stamp(run.metrics_path), views.stamp(run.latest_checkpoint)
        if _log != seen["log"]:
            seen["log"] = _log
            set_logged(_log)
        if _checkpoint != seen["checkpoint"]:
            seen["checkpoint"] = _checkpoint
            set_saved(_checkpoint)
    return


@app.cell
def _(figures, logged, mo, run, said, views):
    logged()
    past = views.history(run)
    _where = f"{past.stage}: {past.index} of {past.total}" if past.stage else "nothing is measured yet"
    _nlls = figures.nll_figure(past)
    _game = figures.game_figure(past)
    mo.vstack(
        [
            said(_where, "1.1rem"),
            *([mo.md("## How good, and how diverse"), _nlls] if _nlls is not None else []),
            *([mo.md("## Reward and entropy"), _game] if _game is not None else []),
        ]
    )
    return


@app.cell
def _(mo, run, said, saved, views):
    saved()
    _problem, them = None, None
    try:
        them = views.players(run)
    except (ValueError, TypeError, ImportError) as error:
        _problem = said(f"The models cannot be shown: {error}")
    _waiting = mo.md("The models are shown after the first checkpoint.") if them is None else None
    _problem or _waiting
    return (them,)


@app.cell
def _(figures, mo, np, them, views):
    mo.stop(them is None)
    _found = views.scores(them, np.random.default_rng(0))
    if _found is None:
        _shown = mo.md("The reward of this run is not learned: there is no discriminator.")
    else:
        _note = "" if them.has_trained_discriminator else " It is not trained yet."
        _text = f"Accuracy on sequences that it never trains on: {_found.accuracy():.3f}.{_note}"
        _shown = mo.vstack([mo.md(_text), figures.scores_figure(_found)])
    mo.vstack([mo.md("## The discriminator"), _shown])
    return


@app.cell
def _(mo):
    temperature = mo.ui.slider(0.5, 1.5, 0.05, value=1.0, label="temperature", show_value=True, debounce=True)
    again = mo.ui.button(label="draw new samples", value=0, on_click=lambda value: value + 1)
    mo.vstack([mo.md("## Temperature"), mo.hstack([temperature, again], justify="start")])
    return again, temperature


@app.cell
def _(mo, them, views):
    mo.stop(them is None)
    curves = {} if them.mle is None else {"MLE": views.temperature_curve(them.mle, them.task)}
    curves["now"] = views.temperature_curve(them.generator, them.task)
    floor = views.oracle_entropy(them.task)
    return curves, floor


@app.cell
def _(curves, figures, floor, mo, temperature, them, views):
    mo.stop(them is None)
    _here = views.at_temperature(them.generator, them.task, temperature.value)
    _quality = "NLL_oracle" if them.task.oracle is not None else "entropy"
    _text = f"At temperature {_here.temperature:g}: NLL_test {_here.nll_test:.3f}, {_quality} {_here.quality:.3f}"
    _figure = figures.temperature_figure(curves, _here, them.task.oracle is not None, floor)
    mo.vstack([mo.md(_text), _figure])
    return


@app.cell
def _(again, mo, np, temperature, them, views):
    mo.stop(them is None)
    drawn = views.samples(them, temperature.value, 6, np.random.default_rng(again.value))
    return (drawn,)


@app.cell
def _(drawn, figures, mo, said):
    _steps = max(map(len, drawn))
    _values = [token.value for row in drawn for token in row]
    _colours = dict(zip(_values, figures.token_colours(_values), strict=True))

    def _token(row, column):
        return drawn[int(row)][int(column) - 1] if int(column) <= len(drawn[int(row)]) else None

    def _style(row, column, value):
        token = _token(row, column)
        if token is None:
            return {}
        face, ink = _colours[token.value]
        return {"backgroundColor": face, "color": ink}

    def _hover(row, column, value):
        token = _token(row, column)
        return "" if token is None else f"Q = {token.value:.3f}"

    table = mo.ui.table(
        [{str(t + 1): said(row[t].text) if t < len(row) else "" for t in range(_steps)} for row in drawn],
        selection="single-cell",
        pagination=False,
        show_search=False,
        show_download=False,
        show_data_types=False,
        show_column_summaries=False,
        style_cell=_style,
        hover_template=_hover,
    )
    mo.vstack(
        [
            mo.md(
                "## Samples, coloured by Q\nYellow is high, violet is low. Click a token: which completions made its Q?"
            ),
            table,
        ]
    )
    return (table,)


@app.cell
def _(drawn, figures, mo, said, table):
    mo.stop(not table.value)
    _cell = table.value[0]
    _row, _place = drawn[int(_cell.row)], int(_cell.column) - 1
    mo.stop(_place >= len(_row))
    _token = _row[_place]
    _inks = figures.token_colours([one.reward for one in _token.completions])
    _listed = mo.ui.table(
        [{"completion": said(one.text or "(whole)"), "reward": f"{one.reward:.3f}"} for one in _token.completions],
        selection=None,
        pagination=False,
        wrapped_columns=["completion"],
        show_search=False,
        show_download=False,
        show_data_types=False,
        show_column_summaries=False,
        style_cell=lambda row, column, value: (
            {"backgroundColor": _inks[int(row)][0], "color": _inks[int(row)][1]} if column == "reward" else {}
        ),
    )
    _heading = f"After “{_token.prefix}”: Q = {_token.value:.3f}, the mean of {len(_token.completions)} rewards"
    mo.vstack([said(_heading, "1.1rem"), _listed])
    return


if __name__ == "__main__":
    app.run()
