# One image for every process: `lms serve`, `lms worker`, `lms relay`, `lms scheduler` and, once per deploy, `lms setup`.
# With what traces need: 4 MB, so that switching them on takes a variable and no other image.
ARG PYTHON=3.13.5-slim-bookworm
FROM python:${PYTHON} AS build
WORKDIR /source
COPY . .
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir "$(grep -oE '^uv==[0-9.]+' requirements.lock)" \
    && /opt/build/bin/uv venv --python "$(command -v python)" /opt/lms \
    && VIRTUAL_ENV=/opt/lms /opt/build/bin/uv pip install --no-cache --compile-bytecode --constraint requirements.lock ".[tracing]" ./plugins/*

FROM python:${PYTHON}
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin lms \
    && install --directory --owner=10001 --mode=0700 /scratch
COPY --from=build /opt/lms /opt/lms
COPY plugins.toml /etc/lms/plugins.toml
ENV PATH=/opt/lms/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    LMS_ENV=production \
    LMS_PLUGINS_FILE=/etc/lms/plugins.toml \
    LMS_DATA=/tmp
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
CMD ["lms", "serve", "--host", "0.0.0.0", "--port", "8000"]
