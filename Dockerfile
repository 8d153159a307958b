# Sentinel's image: `docker build -t registry.example.com/sentinel:0.1.0 .`, for linux/amd64 and linux/arm64.
#
# Tags move, digests do not. Pin the base where you build:
#   docker buildx imagetools inspect python:3.13-slim-trixie      # prints Digest: sha256:...
#   docker build --build-arg PYTHON=3.13-slim-trixie@sha256:... .
ARG PYTHON=3.13-slim-trixie

FROM python:${PYTHON} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt pyproject.toml LICENSE ./
# What Sentinel's own wheel is built with stays out of the image; and no pip in there, nothing is installed later.
RUN pip install --only-binary :all: -c constraints.txt hatchling \
    && python -m venv --without-pip /opt/sentinel
COPY docs/package.md docs/package.md
COPY deploy/prometheus/alerts.yaml deploy/prometheus/alerts.yaml
COPY sentinel_ext sentinel_ext
# Wheels only: nothing of others is compiled here, and none of their setup.py runs. The last step: xds-protos brings
# old messages of OpenTelemetry under the same paths, and is unpacked last (docs/tracing.md).
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/sentinel/bin/python install --only-binary :all: -c constraints.txt /wheels/*.whl \
    && pip --python /opt/sentinel/bin/python install --only-binary :all: -c constraints.txt \
         --force-reinstall --no-deps opentelemetry-proto

FROM python:${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Sentinel" \
      org.opencontainers.image.description="The decision service beside Envoy: rate limits, tiers and circuit breaking for a whole fleet." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim-trixie"
# A name for the number, which `USER` and Kubernetes' runAsNonRoot want as a number.
RUN groupadd --gid 65532 sentinel \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin sentinel
COPY --from=builder /opt/sentinel /opt/sentinel
# The root file system may be read-only: bytecode was written when the packages were installed.
# The program's own defaults are loopback, where nobody outside the container comes in.
ENV PATH=/opt/sentinel/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GRPC_ADDRESS=0.0.0.0:50051 \
    ADMIN_ADDRESS=0.0.0.0:9464
USER 65532:65532
# gRPC for Envoy; metrics, health and the status page. The debug port, 50052, stays on loopback: docker exec.
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["sentinel-ext", "healthcheck"]
ENTRYPOINT ["sentinel-ext"]
CMD ["serve"]
