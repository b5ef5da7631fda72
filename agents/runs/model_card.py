"""A run's generator as a folder for other programs, with a model card that says how good it is.

In: a run folder. Out: of a generator "hf:..." a folder that `transformers` reads: weights as safetensors, configuration
and tokenizer; of our own see `plain_export`. README.md is the card. It holds the closing table with both NLLs, the
data, and all settings.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.runs.plain_export import export_plain, loader_parameters
from agents.runs.pretrained_models import names_of
from agents.runs.run_folder import RunFolder
from seqgan_env.models.pretrained import PREFIX, library, save_model
from seqgan_env.models.pretrained_generator import PretrainedGenerator

_TOKENIZER_FILES = ("tokenizer*.json", "special_tokens_map.json", "chat_template*")
# Column of results.csv -> heading in the card; what a run has not measured is left out.
_COLUMNS = {
    "nll_test": "NLL_test",
    "nll_oracle": "NLL_oracle",
    "entropy": "entropy",
    "bleu2": "BLEU-2",
    "self_bleu2": "self-BLEU-2",
    "distinct": "distinct",
}


def export(run: RunFolder, out: Path, adapter: bool = False, before_the_game: bool = False, onnx: bool = False) -> Any:
    """Write a run's generator, its tokenizer or vocabulary, and a model card.

    Args:
        run: a run whose generator is "hf:...", or one of our own that PyTorch has modules for.
        out: the folder; it is made.
        adapter: write the LoRA adapters alone, for `peft`; otherwise they are merged into the weights.
        before_the_game: export the generator as MLE left it.
        onnx: also write model.onnx.

    Returns:
        The model that was written, an object of `transformers` or `peft`, or the generator.

    Raises:
        ImportError: without the extra that is needed; the message names it.
        ValueError: if the generator cannot be exported so, or cannot be read.
        OSError: if the folder cannot be written.
    """
    generator = run.generator(run.mle_checkpoint if before_the_game else None)
    if adapter:
        expect_pretrained(run, "adapter")
    if not isinstance(generator, PretrainedGenerator):
        loader_parameters(generator)  # raises, before there is a folder
        out.mkdir(parents=True, exist_ok=True)
        export_plain(generator, run.task(), out, onnx)
    else:
        if onnx:
            raise ValueError("onnx=True is for lstm, gru and transformer; Optimum exports pretrained models to ONNX")
        if adapter and not generator.has_adapters:
            raise ValueError("adapter=True: this generator was trained with lora_rank=0, so it has no adapters")
        out.mkdir(parents=True, exist_ok=True)
        generator = _export_pretrained(run, generator, out, adapter)
    (out / "README.md").write_text(model_card(run, adapter, before_the_game), encoding="utf-8")
    return generator


def expect_pretrained(run: RunFolder, option: str) -> None:
    """Raise ValueError unless a run's generator is a pretrained one, "hf:..."."""
    if "generator" not in names_of(run.config()):
        raise ValueError(
            f"{str(run.path)!r} has generator={run.config().generator.name!r}; {option} is for pretrained generators, "
            "hf:..."
        )


def _export_pretrained(run: RunFolder, generator: PretrainedGenerator, out: Path, adapter: bool) -> Any:
    model = generator.adapted_model() if adapter else generator.merged_model()
    save_model(model, out)
    for pattern in _TOKENIZER_FILES:
        for file in run.models()["generator"].glob(pattern):
            shutil.copyfile(file, out / file.name)
    return model


def push(model: Any, out: Path, repository: str) -> None:
    """Send what `export` wrote to the Hugging Face hub, with the library's own functions and its own login.

    Args:
        model: what `export` returned.
        out: the folder that it wrote.
        repository: "user/name".
    """
    hub, transformers = library("huggingface_hub"), library("transformers")
    model.push_to_hub(repository)
    transformers.AutoTokenizer.from_pretrained(out, trust_remote_code=False).push_to_hub(repository)
    hub.ModelCard((out / "README.md").read_text(encoding="utf-8")).push_to_hub(repository)  # in place of their own


def model_card(run: RunFolder, adapter: bool = False, before_the_game: bool = False) -> str:
    """README.md of an exported generator."""
    config, task = run.config(), run.task()
    name = config.generator.name
    is_pretrained = name.startswith(PREFIX)
    source = name.removeprefix(PREFIX)
    stage = "maximum likelihood" if before_the_game or not config.game.rounds else "maximum likelihood, then SeqGAN"
    how = f"adapted from `{_shown(source)}` by {stage}" if is_pretrained else f"trained by {stage}: generator `{name}`"
    data = [f"- {heading}: {value}" for heading, value in task.description()]
    parts = [
        _front_matter(source, adapter) if is_pretrained else _front_matter(),
        f"# {run.path.name}\n\nA language model that was {how} ([SeqGAN-Gym](https://arxiv.org/abs/1609.05473)).",
        f"## Results\n\n{_results(run, before_the_game)}",
        "## Data\n\n" + "\n".join(data),
        "## Use\n\n" + (_use(source, adapter) if is_pretrained else _PLAIN_USE),
        f"## Settings\n\nCommand: `{run.description.get('command', '')}`\n\n"
        f"```json\n{json.dumps({**asdict(config), 'versions': run.description.get('versions')}, indent=2)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


_PLAIN_USE = """`load.py` needs PyTorch alone. Token 0 is fed first; the logits after it are those of the first token.

```python
import torch
from load import load

model, config = load(".")
tokens = torch.zeros(1, 1, dtype=torch.int64)
for _ in range(config["sequence_length"]):
    drawn = torch.multinomial(model(tokens)[:, -1].softmax(dim=1), 1)
    tokens = torch.cat([tokens, drawn], dim=1)
print(tokens[0, 1:].tolist())  # ids; config["eos_token"] ends a sequence, vocabulary.json has the words
```"""


def _front_matter(source: str | None = None, adapter: bool = False) -> str:
    """What the hub reads of a card; no source: a model of our own."""
    library_name = "pytorch" if source is None else "peft" if adapter else "transformers"
    lines = [f"library_name: {library_name}", "pipeline_tag: text-generation"]
    if source is not None and _is_on_the_hub(source):
        lines.append(f"base_model: {source}")
    return "\n".join(["---", *lines, "tags:", "- seqgan", "- seqgan-gym", "---"])


def _is_on_the_hub(source: str) -> bool:
    return not source.startswith((".", "/", "~")) and source.count("/") <= 1 and not Path(source).exists()


def _shown(source: str) -> str:
    """A source without the folders of the machine that it was on."""
    return source if _is_on_the_hub(source) else Path(source).name


def _results(run: RunFolder, before_the_game: bool) -> str:
    """The closing table, in Markdown, and which of its lines is the exported generator."""
    path = run.path / "results.csv"
    if not path.is_file():
        return "Not measured: the run has no closing table yet."
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {name: heading for name, heading in _COLUMNS.items() if rows and name in rows[0]}
    lines = [_line(["method", *columns.values()]), _line(["---"] * (1 + len(columns)))]
    for row in rows:
        lines.append(_line([row["method"], *(_number(row, name) for name in columns)]))
    of_the_game = [row["method"] for row in rows if not row["method"].startswith(("MLE", "real data"))]
    exported = "MLE" if before_the_game or not of_the_game else of_the_game[-1]
    held_out = f"{len(run.task().real_sequences('test')):,} test sequences"
    oracle = "" if "nll_oracle" in columns else " There is no oracle for this task, so there is no NLL_oracle."
    text = f"NLLs are in nats per token, with standard errors. NLL_test is that of {held_out}.{oracle}"
    return "\n".join(lines) + f'\n\n{text} This generator is the line "{exported}".'


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(row: dict[str, str], name: str) -> str:
    if not row[name]:
        return ""
    error = row.get(f"{name}_se")
    return f"{float(row[name]):.3f}" + (f" ± {float(error):.3f}" if error else "")


def _use(source: str, adapter: bool) -> str:
    """How to load it."""
    if adapter:
        load = (
            "from peft import PeftModel\n"
            f'base = AutoModelForCausalLM.from_pretrained("{_shown(source)}")\n'
            'model = PeftModel.from_pretrained(base, ".")'
        )
    else:
        load = 'model = AutoModelForCausalLM.from_pretrained(".")'
    return (
        "The model begins with BOS, or with EOS if it has no BOS, and ends a text with EOS.\n\n"
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f'{load}\ntokenizer = AutoTokenizer.from_pretrained(".")\n```'
    )
