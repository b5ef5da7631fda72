"""Packaging of SeqGAN-Gym: two packages, one console command, small extras."""

from pathlib import Path

from setuptools import find_namespace_packages, find_packages, setup

README = Path(__file__).parent / "README.md"

CORE = [
    "gymnasium>=1.1",
    "torch>=2.4",
    "stable-baselines3>=2.6",
    "numpy>=1.26",
    "safetensors>=0.4",
    "tyro>=0.9",
    "docstring-parser>=0.15",
    "rich>=13",
    "regex>=2023.8",
    "tensorboard>=2.14",
    "matplotlib>=3.8",
    "filelock>=3.12",
]
# transformers itself needs Python 3.11; on Python 3.10 the tests of pretrained models are skipped.
PRETRAINED = ["transformers>=5.24; python_version >= '3.11'", "peft>=0.21; python_version >= '3.11'"]
EXTRAS = {
    "contrib": ["sb3-contrib>=2.6"],
    "reproduce": ["scipy>=1.11", "pandas>=2.1", "ray>=2.9"],
    "compare": ["sb3-contrib>=2.6", "scipy>=1.11", "pandas>=2.1", "ray>=2.9", "pyyaml>=6"],
    "text": ["tokenizers>=0.19"],
    "music": ["symusic>=0.6"],
    "watch": ["marimo>=0.20"],
    "play": ["pygame>=2.5", "moviepy>=1.0.3"],
    "datasets": ["datasets>=2.19"],
    "onnx": ["onnx>=1.16", "onnxscript>=0.2"],
    "parquet": ["pyarrow>=14"],
    "transformers": PRETRAINED,
    "test": [
        "pytest>=8",
        "pytest-cov>=5",
        "pytest-xdist>=3.6",
        "hypothesis>=6.100",
        "scipy>=1.11",
        "pandas>=2.1",
        "ray>=2.9",
        "sb3-contrib>=2.6",
        "pyyaml>=6",
        "tokenizers>=0.19",
        "symusic>=0.6",
        "pyarrow>=14",
        "nltk>=3.8",
        "sacrebleu>=2.4",
        "pygame>=2.5",
        "moviepy>=1.0.3",
        "ipykernel>=6.29",
        "nbclient>=0.10",
        *PRETRAINED,
    ],
    "lint": ["ruff>=0.6", "mypy>=1.11"],
}
EXTRAS["all"] = sorted({requirement for group in EXTRAS.values() for requirement in group})
# Mutation tests run by hand, and other libraries bring some twenty packages each, so "all" leaves them out. RLlib pins
# another Gymnasium than constraints.txt, and tianshou older pandas and filelock: docs/libraries.md.
EXTRAS |= {
    "zoo": ["rl-zoo3>=2.6"],
    "torchrl": ["torchrl>=0.14", "tensordict>=0.14"],
    "trl": ["trl>=1.16", "transformers>=5", "datasets>=2.19"],
    "tianshou": ["tianshou>=2.0.1"],
    "mutation": ["mutmut>=3.8"],
    "browser": ["marimo>=0.20", "playwright>=1.45"],  # and a Chromium, such as Debian's
}
# The labs: students need what a notebook needs, and Otter-Grader to check their answers.
EXTRAS["course"] = ["otter-grader>=7", "jupytext>=1.16", "nbclient>=0.10", "ipykernel>=6.29", "scipy>=1.11"]
# The site. The package named after Django holds MathJax's files and needs no Django.
EXTRAS["docs"] = [
    "mkdocs-material>=9.5",
    "mkdocstrings[python]>=0.27",
    "jupytext>=1.16",
    "django-static-mathjax>=3.2.2",
]
# `agents` is a namespace package: openai-agents installs a package of this name too, with an `__init__.py` and a
# `py.typed` of its own. No file of ours may stand in these places. Its subpackages each have their `py.typed`.
AGENTS = find_namespace_packages(include=["agents*"], exclude=["*__pycache__*"])

setup(
    name="seqgan-gym",
    version="0.1.0",
    description="SeqGAN as a Gymnasium environment plus Stable-Baselines3 agents",
    long_description=README.read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=[*find_packages(include=["seqgan_env*"]), *AGENTS],  # agents.settings is a folder of data
    package_data={
        "": ["py.typed"],
        "seqgan_env.agents": ["*.pyi"],
        "seqgan_env.corpora": ["data/*.txt", "data/*.abc"],
        "agents.settings": ["*.yml"],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["seqgan=agents.command.main:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
