"""Pretrained models of the `transformers` library: reading them, storing them, and sharing their frozen weights.

In: "hf:PATH" or "hf:NAME", a folder or a model of the Hugging Face hub. Out: a PyTorch module, perhaps with LoRA
adapters (Hu et al. 2022), W x + (alpha / r) B A x, where only A (r, in) and B (out, r) are trained.
Weights are read from safetensors alone, and code that comes with a model is never run. Reading moves no random stream.
`transformers` and `peft` are imported at the first use: pip install 'seqgan-gym[transformers]'.
"""

from __future__ import annotations

import copy
import importlib
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from seqgan_env.arguments import check_count, check_number

PREFIX = "hf:"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_NAMES_OF_CODE = ("auto_map", "custom_pipelines", "kernel_config", "use_kernels")
Shared = TypeVar("Shared", bound="SharedBase")


def is_pretrained(name: str) -> bool:
    """Whether a part's name is "hf:PATH" or "hf:NAME"."""
    return name.startswith(PREFIX)


def source_of(name: str) -> str:
    """The folder, or the name on the hub, of "hf:SOURCE".

    Raises:
        ValueError: if nothing follows "hf:", or a folder is meant that does not exist.
    """
    source = name.removeprefix(PREFIX)
    if not source:
        raise ValueError(f"{name!r} names no model; write hf:PATH or hf:NAME")
    if source.startswith((".", "/", "~")) and not Path(source).expanduser().is_dir():
        raise ValueError(f"{name!r}: there is no such folder")
    return str(Path(source).expanduser()) if Path(source).expanduser().is_dir() else source


def library(name: str) -> Any:
    """`transformers` or `peft`.

    Raises:
        ImportError: if it is not installed; names the extra.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"models named hf:... need {name}: pip install 'seqgan-gym[transformers]' (Python 3.11 or later)"
        ) from error


@contextmanager
def quietly() -> Iterator[Any]:
    """`transformers` without its progress bars and reports; random streams are as before when the block ends."""
    transformers = library("transformers")
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is going away
            yield transformers
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_model(kind: str, source: str | Path, dtype: torch.dtype | str) -> Any:
    """A model in evaluation mode, on the CPU.

    Args:
        kind: the class of `transformers` that reads it: "AutoModelForCausalLM", or "AutoModel" for a model without
            head.
        source: folder, or name on the hub.
        dtype: of its weights; "auto" is that of the file.

    Raises:
        ImportError: without the extra `transformers`.
        ValueError: if there is no such model, it is a LoRA adapter, it has no safetensors, or weights are missing.
    """
    if (Path(source) / "adapter_config.json").is_file():
        raise ValueError(f"{str(source)!r} holds a LoRA adapter; merge it into its base model, and give that folder")
    with quietly() as transformers:
        try:
            options = {
                "config": load_config(source),
                "dtype": dtype,
                "trust_remote_code": False,
                "use_safetensors": True,
                "local_files_only": Path(source).is_dir(),
                "output_loading_info": True,
            }
            read = getattr(transformers, kind).from_pretrained
            try:
                model, found = read(source, attn_implementation="sdpa", **options)
            except ValueError as error:
                if "attention" not in str(error):
                    raise
                model, found = read(source, attn_implementation="eager", **options)
        except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
            raise ValueError(
                f"{str(source)!r} cannot be read as a {kind} with weights in safetensors: {str(error).strip()}"
            ) from error
    missing = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
    if missing or found["mismatched_keys"]:
        wrong = missing or sorted(map(str, found["mismatched_keys"]))
        raise ValueError(f"{str(source)!r} lacks weights, or has some of another shape: {', '.join(wrong[:3])}")
    if getattr(model, "pooler", None) is not None:  # of encoders; not used here
        model.pooler = None
    return model.eval()


def load_tokenizer(source: str | Path) -> Any:
    """The fast tokenizer of a model, an object of `transformers`.

    Raises:
        ImportError: without the extra `transformers`.
        ValueError: if there is none, or it is not a fast one.
    """
    with quietly() as transformers:
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                source, trust_remote_code=False, local_files_only=Path(source).is_dir()
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{str(source)!r} has no tokenizer that can be read: {str(error).strip()}") from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ValueError(f"{str(source)!r} has no fast tokenizer (tokenizer.json); save one with the model")
    return tokenizer


def load_config(source: str | Path) -> Any:
    """The configuration of a model, without what could make the library download or run code.

    A configuration may name Python files beside it, or kernels of the hub for attention and experts. The library takes
    the file's choice of a kernel even where a caller has chosen another one, so these entries are left out.

    Raises:
        ImportError: without the extra `transformers`.
        ValueError: if there is no configuration, its kind is not one of the library's own, or weights are quantised.
    """
    with quietly() as transformers:
        try:
            values, _ = transformers.PreTrainedConfig.get_config_dict(source, local_files_only=Path(source).is_dir())
            if values.get("quantization_config"):
                raise ValueError("its weights are quantised; give the model in float32 or bfloat16")
            kind = values.get("model_type")
            if kind not in transformers.CONFIG_MAPPING:
                raise ValueError(f"model_type={kind!r} is no kind of model that this version of transformers has")
            return transformers.CONFIG_MAPPING[kind].from_dict(_without_code(values))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{str(source)!r} has no model configuration: {str(error).strip()}") from error


def _without_code(values: Any) -> Any:
    """A configuration without entries that choose code, at any depth."""
    if isinstance(values, list):
        return [_without_code(value) for value in values]
    if not isinstance(values, dict):
        return values
    return {
        name: _without_code(value)
        for name, value in values.items()
        if name not in _NAMES_OF_CODE and "implementation" not in name
    }


def store(kind: str, source: str | Path, folder: Path) -> None:
    """Write a model and its tokenizer, if it has one, into a folder: configuration, safetensors, tokenizer.json.

    Args:
        kind: as of `load_model`.
        source: folder, or name on the hub.
        folder: where to; it may exist.

    Raises:
        ImportError, ValueError: as `load_model`.
    """
    model = load_model(kind, source, "auto")
    save_model(model, folder)
    try:
        tokenizer = load_tokenizer(source)
    except ValueError:
        return
    tokenizer.save_pretrained(folder)


def save_model(model: Any, folder: Path) -> None:
    """Write a model of `transformers` or `peft`; whoever may read its configuration may also read its weights."""
    with quietly():
        model.save_pretrained(folder)
    (configuration,) = (path for path in folder.iterdir() if path.name in ("config.json", "adapter_config.json"))
    for weights in folder.glob("*.safetensors"):
        shutil.copymode(configuration, weights)


def with_lora(model: Any, rank: int, alpha: float, seed: int) -> Any:
    """A model whose linear layers have LoRA adapters; all other weights are frozen. Without effect at the start.

    Args:
        model: of `transformers`, changed in place.
        rank: r.
        alpha: the adapters' output is scaled with alpha / r.
        seed: of the matrices A; B starts at 0.
    """
    check_count("lora_rank", rank)
    check_number("lora_alpha", alpha, above=0)
    peft = library("peft")
    is_transposed = any(type(module).__name__ == "Conv1D" for module in model.modules())  # GPT-2's linear layers
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, target_modules="all-linear", fan_in_fan_out=is_transposed, bias="none"
    )
    with quietly():
        torch.manual_seed(seed)
        return peft.get_peft_model(model, config)


def check_options(dtype: str, lora_rank: int) -> None:
    """Check the options that pretrained generators and discriminators share.

    Raises:
        ValueError, TypeError: if dtype is not a key of `DTYPES`, or the rank is not an int of at least 0.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} must be one of {', '.join(DTYPES)}")
    if lora_rank != 0:
        check_count("lora_rank", lora_rank)


class SharedBase(nn.Module):
    """A module around a pretrained model whose frozen weights exist once, whatever number of copies there is.

    - A deep copy has its own trained parameters, and shares the frozen ones. So G_theta, G_beta and the anchor need
      the memory of one base model. Convert or move the first one before copying: the others follow its base.
    - `state_dict` holds the trained parameters only. The base is stored once, by the owner of the run.

    Where everything is trained, copies share nothing, and `state_dict` holds everything, each tensor once.
    """

    _shared: frozenset[str] = frozenset()  # names of frozen parameters
    _unsaved: frozenset[str] = frozenset()  # entries of nn.Module's state_dict that ours leaves out
    _prefix = ""  # of the entries that are being loaded

    def _share_frozen(self) -> None:
        """Share the parameters that are frozen now. Call it at the end of the constructor."""
        parameters = dict(self.named_parameters(remove_duplicate=False))
        learns = any(parameter.requires_grad for parameter in parameters.values())
        self._shared = frozenset(name for name, parameter in parameters.items() if not parameter.requires_grad)
        assert learns
        stored: set[int] = set()
        twice: set[str] = set()
        for name, parameter in parameters.items():
            if id(parameter) in stored:
                twice.add(name)
            stored.add(id(parameter))
        buffers = {name for name, _ in self.named_buffers()}
        self._unsaved = frozenset(self._shared | twice | buffers)
        self.register_load_state_dict_post_hook(_expect_trained_alone)

    def state_dict(self, *arguments: Any, **keywords: Any) -> Any:
        """The trained parameters by name; as `nn.Module.state_dict`."""
        found = super().state_dict(*arguments, **keywords)
        prefix = keywords.get("prefix", "")
        for name in self._unsaved:
            found.pop(f"{prefix}{name}", None)
        return found

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        self._prefix = prefix
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def requires_grad_(self: Shared, requires_grad: bool = True) -> Shared:
        """Freeze or unfreeze the trained parameters; the base stays frozen."""
        for name, parameter in self.named_parameters():
            if name not in self._shared:
                parameter.requires_grad_(requires_grad)
        return self

    def __deepcopy__(self: Shared, memo: dict[int, Any]) -> Shared:
        for name, parameter in self.named_parameters(remove_duplicate=False):
            if name in self._shared:
                memo[id(parameter)] = parameter
        copied = self.__class__.__new__(self.__class__)
        memo[id(self)] = copied
        copied.__setstate__(copy.deepcopy(self.__dict__, memo))
        return copied

    def base_tensors(self) -> list[Tensor]:
        """The frozen parameters, each once."""
        return [parameter for name, parameter in self.named_parameters() if name in self._shared]


def _expect_trained_alone(module: SharedBase, incompatible: Any) -> None:
    """After loading: entries that `state_dict` leaves out are not missing."""
    left_out = {f"{module._prefix}{name}" for name in module._unsaved}
    incompatible.missing_keys[:] = [name for name in incompatible.missing_keys if name not in left_out]
