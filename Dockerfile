# docker build -t mome . && docker run --rm -p 127.0.0.1:8888:8888 mome
# Opens JupyterLab on the first notebook; the address with its token stands in the log.
FROM python:3.13-slim AS tools
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --shell /bin/bash reader
USER reader

FROM tools
ENV PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1
WORKDIR /home/reader/mome
COPY --chown=reader . .
# Installs with PyTorch's CPU build and, as a check, runs the smallest path: notebooks find its results.
RUN make smoke CORPUS=mini
EXPOSE 8888
CMD ["make", "lab", "LAB=--ip=0.0.0.0 --no-browser"]
