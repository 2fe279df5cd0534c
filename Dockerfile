# CLOUDS with its embedded defaults. The same image serves CPU and CUDA: PyPI's Linux wheels of torch bring CUDA's
# libraries, so `docker run --gpus all` is enough. For a smaller CPU-only image name torch's CPU wheels:
#   docker build --build-arg PIP_ARGS="--extra-index-url ADDRESS_OF_TORCH_CPU_WHEELS" -t clouds .
# A release names its base by digest, so that the same file gives the same image:
#   docker build --build-arg BASE=python:3.11-slim@sha256:DIGEST -t clouds .
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG PIP_ARGS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

RUN useradd --create-home --uid 1000 clouds
WORKDIR /opt/clouds
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
# hadolint ignore=DL3013,SC2086
RUN pip install ${PIP_ARGS} -c constraints.txt ".[serve]"

USER 1000
# runs, datasets and the hub's cache live outside of the image
VOLUME ["/work", "/home/clouds/.cache/huggingface"]
WORKDIR /work
ENTRYPOINT ["clouds"]
CMD ["--help"]
