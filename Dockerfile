# Shoptalk as an image. On a CPU, and on an NVIDIA GPU (to be run with --gpus all):
#   docker build -t shoptalk .
#   docker build -t shoptalk:gpu --build-arg DEVICE=gpu .
# With the client of a vector database: --build-arg EXTRAS=qdrant (or milvus).
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG DEVICE=cpu
ARG EXTRAS=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
RUN python -m venv /opt/shoptalk
COPY constraints.txt ./
# torch first and by itself: what changes with the sources need not fetch it again, and on Linux the usual
# index has its CUDA build, of several GB, which a CPU has no use for.
RUN if [ "$DEVICE" = cpu ]; then index=https://download.pytorch.org/whl/cpu; else index=https://pypi.org/simple; fi \
    && /opt/shoptalk/bin/pip install --index-url "$index" --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE shoptalk.py ./
COPY retrieval retrieval
COPY trainer trainer
COPY server server
COPY agent agent
RUN /opt/shoptalk/bin/pip install --constraint constraints.txt ".[${DEVICE}${EXTRAS:+,${EXTRAS}}]"

FROM python:${PYTHON}-slim
COPY --from=build /opt/shoptalk /opt/shoptalk
RUN useradd --uid 1000 --create-home shoptalk && install --directory --owner shoptalk /workspace /models
ENV PATH=/opt/shoptalk/bin:$PATH PYTHONUNBUFFERED=1 SHOPTALK_WORKSPACE=/workspace HF_HOME=/models
USER 1000
WORKDIR /workspace
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=3)"]
ENTRYPOINT ["shoptalk"]
CMD ["serve", "--http", "0.0.0.0:8000", "--log-format", "json"]
