# Two images from one file:
#
#   docker build --target env -t seedbed-env .                              environment clients; no torch
#   docker build --target server -t seedbed-server .                        the policy server, on a CPU
#   docker build --target server --build-arg TORCH=cuda -t seedbed-server:cuda .    on an NVIDIA GPU
#
# Both contain ale-py, which is GPL-2.0-only; seedbed itself is Apache-2.0. The server never steps an environment, but
# builds one in a child process to learn what it looks like.

# By its tag, so that it can come from a mirror and gets its security updates; to have one image for good, by its digest:
# --build-arg PYTHON=python@sha256:...
ARG PYTHON=python:3.11-slim-bookworm
FROM $PYTHON AS base
ENV PATH=/opt/seedbed/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONFAULTHANDLER=1 \
    GRPC_VERBOSITY=ERROR
# A fixed number: Kubernetes checks it without reading /etc/passwd, and files of the host can be given to it.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin seedbed

# The project as a wheel, so that no source and no build tool ends up in an image. All that is installed here and below
# is checked against the hashes in deploy/requirements (`make hashes`); pip refuses what has none or another one.
FROM base AS wheel
COPY deploy/requirements /requirements
RUN --mount=type=cache,target=/root/.cache/pip pip install --require-hashes --requirement /requirements/build.txt
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY common common
COPY env_client env_client
COPY server server
COPY api api
RUN pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels .

FROM base AS env-packages
RUN python -m venv --without-pip /opt/seedbed
COPY deploy/requirements /requirements
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/seedbed/bin/python install --no-deps --require-hashes --requirement /requirements/env.txt
COPY --from=wheel /wheels /wheels
RUN pip --python /opt/seedbed/bin/python install --no-deps --no-index /wheels/*.whl \
    && pip --python /opt/seedbed/bin/python check

FROM base AS server-packages
ARG TORCH=cpu
RUN python -m venv --without-pip /opt/seedbed
COPY constraints.txt /
COPY deploy/requirements /requirements
# First, in a layer of its own: it is most of the image and changes least. The CPU build is a tenth of the usual one,
# which brings CUDA along. Its index, torch's own, has it alone: it goes by its version, without a hash.
RUN --mount=type=cache,target=/root/.cache/pip \
    version=$(sed -n 's/^torch==//p' /constraints.txt); \
    case "$TORCH" in \
        cpu) pip --python /opt/seedbed/bin/python install --no-deps \
                 --extra-index-url https://download.pytorch.org/whl/cpu "torch==$version+cpu" ;; \
        cuda) pip --python /opt/seedbed/bin/python install --no-deps --require-hashes \
                 --requirement /requirements/cuda.txt ;; \
        *) echo "expected --build-arg TORCH=cpu or TORCH=cuda, got '$TORCH'" >&2; exit 1 ;; \
    esac
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/seedbed/bin/python install --no-deps --require-hashes --requirement /requirements/server.txt
COPY --from=wheel /wheels /wheels
RUN pip --python /opt/seedbed/bin/python install --no-deps --no-index /wheels/*.whl \
    && pip --python /opt/seedbed/bin/python check

FROM base AS env
LABEL org.opencontainers.image.title="seedbed environment client" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-2.0-only"
# One thread steps all environments of a client; pools of idle threads would only cost memory.
ENV OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
COPY --from=env-packages /opt/seedbed /opt/seedbed
USER 10001:10001
# No shell in between: SIGTERM reaches the client, which says goodbye and gives its rows back.
STOPSIGNAL SIGTERM
ENTRYPOINT ["seedbed", "env"]

FROM base AS server
LABEL org.opencontainers.image.title="seedbed policy server" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-2.0-only"
COPY --from=server-packages /opt/seedbed /opt/seedbed
COPY --chmod=755 deploy/probe.py /usr/local/bin/seedbed-probe
# A named volume that is mounted here for the first time takes over this owner.
RUN install --directory --owner=10001 --group=10001 /runs
USER 10001:10001
# No shell in between: SIGTERM reaches the server, which writes a checkpoint.
STOPSIGNAL SIGTERM
EXPOSE 7777
ENTRYPOINT ["seedbed", "server"]
