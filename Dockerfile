# syntax=docker/dockerfile:1
# The daemon in a container. A digest would pin the base for good; the tag follows the security updates of its release.
# compose.yaml has the rest: ledger, secrets, read-only root, metrics.

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/avs-task-watcher
COPY requirements.txt ./
RUN /opt/avs-task-watcher/bin/pip install --require-hashes --only-binary :all: -r requirements.txt
# Hatchling builds the wheel; it does not go into the image.
COPY pyproject.toml README.md LICENSE ./
COPY watcher watcher
COPY migrations migrations
COPY systemd systemd
COPY examples examples
COPY monitoring monitoring
COPY docs docs
RUN /opt/avs-task-watcher/bin/pip install --no-deps . \
    && /opt/avs-task-watcher/bin/python -m compileall -q /opt/avs-task-watcher/lib

FROM python:3.11-slim-bookworm
# A fixed number, so that files of the host can be given to it.
RUN groupadd --gid 10001 avs-watcher \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin avs-watcher \
    && install -d -o avs-watcher -g avs-watcher -m 0750 /var/lib/avs-watcher
COPY --from=build /opt/avs-task-watcher /opt/avs-task-watcher
ENV PATH=/opt/avs-task-watcher/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STATE_DIRECTORY=/var/lib/avs-watcher \
    CREDENTIALS_DIRECTORY=/run/secrets \
    WATCHER_CONFIG=/etc/avs-watcher/watcher.toml \
    WATCHER_HTTP__LISTEN=0.0.0.0:9010
USER 10001:10001
WORKDIR /var/lib/avs-watcher
VOLUME /var/lib/avs-watcher
EXPOSE 9010
STOPSIGNAL SIGTERM
# The state that `watcher check` and alerts report, evaluated every second by the daemon.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9010/readyz', timeout=4)"]
ENTRYPOINT ["watcher"]
CMD ["run"]
