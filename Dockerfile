# One image for all roles: `docker compose up` starts them; docs/containers.md says the rest.

FROM python:3.13-slim AS build
WORKDIR /src

# The environment has no pip of its own: the base image's installs into it, and stays behind in this stage.
RUN python -m venv --without-pip /opt/wiretape
COPY requirements.lock ./
# A package without a wheel for this platform must fail here: there is no compiler, and no reason to have one.
RUN python -m pip --python /opt/wiretape/bin/python --disable-pip-version-check install \
      --no-compile --only-binary :all: --require-hashes --requirement requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY migrations ./migrations
COPY proxy ./proxy
# The lock holds what builds the package; what runs it does not need that.
RUN /opt/wiretape/bin/python -m hatchling build --target wheel --directory /dist \
 && python -m pip --python /opt/wiretape/bin/python --disable-pip-version-check install \
      --no-compile --no-index --no-deps /dist/*.whl \
 && python -m pip --python /opt/wiretape/bin/python --disable-pip-version-check uninstall --yes hatchling editables
# Nothing is compiled later, on a file system that is read-only; and copying may change a file's time.
RUN /opt/wiretape/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/wiretape/lib


FROM python:3.13-slim
LABEL org.opencontainers.image.title="wiretape" \
      org.opencontainers.image.description="A recording reverse proxy for LLM APIs" \
      org.opencontainers.image.licenses="Apache-2.0"

# The user has a number and no name: a name would be one more file to keep, and orchestrators check the number.
RUN mkdir -p -m 0700 /var/lib/wiretape && chown 10001:10001 /var/lib/wiretape
COPY --from=build /opt/wiretape /opt/wiretape

ENV PATH=/opt/wiretape/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/wiretape \
    WIRETAPE_HOME=/var/lib/wiretape
# A wiretape.toml that is mounted here is read.
WORKDIR /etc/wiretape
VOLUME /var/lib/wiretape
USER 10001:10001
EXPOSE 8800 8801

# Of `serve` and `forward`, whose data port this is; docker-compose.yml has one for each role.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('WIRETAPE_FORWARD__PORT') or 8800), timeout=3); c.request('GET', '/-/live'); raise SystemExit(c.getresponse().status != 200)"]

# The exec form: the role itself gets SIGTERM, lets running streams end, and ends with 0.
STOPSIGNAL SIGTERM
ENTRYPOINT ["wiretape"]
CMD ["serve"]
