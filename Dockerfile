# The `seqgan` command in a container.
#   CPU:   docker build -t seqgan-gym .
#   GPU:   docker build -t seqgan-gym:cuda --build-arg BASE=nvidia/cuda:13.0.2-runtime-ubuntu24.04 .
#   Train: mkdir -p runs && docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/runs:/work/runs" seqgan-gym train oracle
#          (with a GPU: --gpus all)
ARG BASE=python:3.11-slim
FROM ${BASE}

# A Python base has all that is needed. A CUDA base of Ubuntu or Debian lacks Python.
RUN python3 -c "import ensurepip, venv" \
    || (apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*)

# Where PyTorch's wheel comes from. The default Linux wheel brings several gigabytes for GPUs. For a small image without
# them, give the address of the CPU wheels that PyTorch's installation page names.
ARG TORCH_INDEX=
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/venv
COPY . /source
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c /source/constraints.txt torch \
    && pip install -c /source/constraints.txt "/source[contrib,reproduce,text,music]" \
    && rm -rf /source

# Any user may run it; caches go to the temporary folder.
ENV HOME=/tmp MPLCONFIGDIR=/tmp
RUN mkdir -p /work/runs && chmod 1777 /work/runs
WORKDIR /work
USER 1000:1000
ENTRYPOINT ["seqgan"]
CMD ["--help"]
