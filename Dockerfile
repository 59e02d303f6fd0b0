# regstore in a container. A report of a volume that nothing in it can write to:
#
#   docker build --tag regstore .
#   docker run --rm --read-only --volume /var/lib/registry:/var/lib/registry:ro regstore report capacity /var/lib/registry
#
# Collections, repairs and restores write to the volume: mount it without `ro`, and run as the registry's user with
# `--user UID:GID`. What regstore learns of volumes is kept in /var/lib/regstore, when a volume is mounted there.
FROM python:3.13-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY regstore regstore
COPY drivers drivers
RUN python -m venv /opt/regstore \
    && /opt/regstore/bin/pip install --no-cache-dir --disable-pip-version-check . \
    && /opt/regstore/bin/pip uninstall --yes pip

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="regstore" \
    org.opencontainers.image.description="Storage toolkit for the data volume of a Docker/OCI registry" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/regstore /opt/regstore
RUN install --directory --owner=65532 --group=65532 --mode=0700 /var/lib/regstore
ENV PATH=/opt/regstore/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_STATE_HOME=/var/lib
USER 65532:65532
ENTRYPOINT ["regstore"]
CMD ["--help"]
