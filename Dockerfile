# Two images from one file: docker build --target operator|predictor .
# BASE: any Debian-like image with Python 3.11 as python3. A corporate index or CA comes in by the build secret "pip" (a pip.conf) and by BASE itself.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/aiservice && /opt/aiservice/bin/pip install -q "hatchling>=1.27"
WORKDIR /src

FROM build AS operator-build
COPY requirements/operator.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/aiservice/bin/pip install -q --require-hashes --target /opt/site -r requirements/operator.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY predictors predictors
COPY pipelines pipelines
RUN /opt/aiservice/bin/pip install -q --no-deps --no-build-isolation --target /opt/site . \
    && rm -rf /opt/site/aiservice_predictor /opt/site/aiservice_pipeline && find /opt/site -name tests -type d -prune -exec rm -rf {} + \
    && python3 -m compileall -q /opt/site

FROM build AS predictor-build
COPY requirements/predictor.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/aiservice/bin/pip install -q --require-hashes --target /opt/site -r requirements/predictor.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY predictors predictors
COPY pipelines pipelines
RUN /opt/aiservice/bin/pip install -q --no-deps --no-build-isolation --target /opt/site . \
    && rm -rf /opt/site/aiservice_pipeline && find /opt/site -name tests -type d -prune -exec rm -rf {} + \
    && python3 -m compileall -q /opt/site

FROM ${BASE} AS runtime
ENV PYTHONPATH=/opt/site PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/opt/bin:/usr/local/bin:/usr/bin:/bin
RUN mkdir -p /opt/bin && ln -s "$(command -v python3)" /opt/bin/python
USER 65532:65532
WORKDIR /tmp

FROM runtime AS operator
COPY --from=operator-build /opt/site /opt/site
ENTRYPOINT ["python", "-m", "aiservice.kube.main"]

FROM runtime AS predictor
COPY --from=predictor-build /opt/site /opt/site
ENTRYPOINT ["python", "-m", "aiservice_predictor"]
