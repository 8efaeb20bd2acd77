# Two images from one file: hack/cluster/build --target operator|predictor -t NAME . (or docker build with the arguments below)
# BASE: an image with Python 3.11 as python3. BUILD_BASE: the same with venv and pip. A corporate index and CA come in as the secrets pip (a pip.conf) and ca.
ARG BASE=python:3.11-slim-bookworm
ARG BUILD_BASE=python:3.11-slim-bookworm

FROM ${BUILD_BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m venv /opt/build && /opt/build/bin/pip install -q "hatchling>=1.27"

FROM build AS predictor-build
RUN command -v gcc >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends gcc libc6-dev; }
COPY requirements/predictor.txt requirements/compile.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    /opt/build/bin/pip install -q --require-hashes --target /opt/site -r requirements/predictor.txt \
    && /opt/build/bin/pip install -q --require-hashes -r requirements/compile.txt \
    && find /opt/site -name tests -type d -prune -exec rm -rf {} + && rm -rf /opt/site/onnxruntime/transformers /opt/site/onnxruntime/tools /opt/site/onnxruntime/capi/libonnxruntime.so*
COPY pyproject.toml README.md LICENSE ./
COPY scripts/compile.py scripts/hatch_build.py scripts/
COPY operator operator
COPY predictors predictors
COPY pipelines pipelines
# What is in the hot path is compiled against the very libraries that it will meet.
RUN echo /opt/site > "$(/opt/build/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/site.pth" \
    && HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 /opt/build/bin/pip install -q --no-deps --no-build-isolation --target /opt/site . \
    && rm -rf /opt/site/aiservice_pipeline && python3 -m compileall -q /opt/site \
    && find /opt/site -name '*.c' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' | xargs rm -f && rm -rf /opt/site/numpy/f2py

FROM build AS operator-build
COPY requirements/operator.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    /opt/build/bin/pip install -q --no-compile --require-hashes --target /opt/site -r requirements/operator.txt \
    && find /opt/site -name tests -type d -prune -exec rm -rf {} +
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY predictors predictors
COPY pipelines pipelines
# The Kubernetes client has a class for every kind and loads one when it is asked for; the operator works with plain objects and asks for none.
RUN /opt/build/bin/pip install -q --no-compile --no-deps --no-build-isolation --target /opt/site . \
    && rm -rf /opt/site/aiservice_predictor /opt/site/aiservice_pipeline \
    && PYTHONPATH=/opt/site PYTHONDONTWRITEBYTECODE=1 python3 -c "import pathlib, sys, aiservice.kube.main, aiservice.kube.check; \
used = {getattr(m, '__file__', None) for m in sys.modules.values()}; \
[f.unlink() for part in ('api', 'models') for f in pathlib.Path('/opt/site/kubernetes').glob(f'**/client/{part}/*.py') if str(f) not in used]" \
    && python3 -m compileall -q -b -o 2 /opt/site/kubernetes && find /opt/site/kubernetes -name '*.py' -delete && python3 -m compileall -q /opt/site

FROM ${BASE} AS runtime
RUN mkdir -p /opt/bin && ln -s "$(command -v python3)" /opt/bin/python
ENV USER=aiservice HOME=/tmp PYTHONPATH=/opt/site PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/opt/bin:/usr/local/bin:/usr/bin:/bin
USER 65532:65532
WORKDIR /tmp

FROM runtime AS operator
COPY --from=operator-build /opt/site /opt/site
ENTRYPOINT ["python", "-m", "aiservice.kube.main"]

FROM runtime AS predictor
ENV ORT_DISABLE_TELEMETRY=1
COPY --from=predictor-build /opt/site /opt/site
ENTRYPOINT ["python", "-m", "aiservice_predictor"]
