"""Python packages inside `docker build`: this machine's proxies, CA bundle and package index; the last two as secrets, so no layer keeps them."""

import configparser
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .shell import run

CA = "/etc/ssl/certs/ca-certificates.crt"  # where Debian looks, inside the image
MOUNTS = f"--mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target={CA}"  # for RUN lines


def proxies() -> list[str]:
    return [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "no_proxy")]


@contextmanager
def index_secrets() -> Iterator[list[str]]:
    """The --secret words for `docker build`."""
    with tempfile.TemporaryDirectory() as scratch:
        pip = Path(scratch) / "pip.conf"
        pip.write_text(_pip_conf())
        words = ["--secret", f"id=pip,src={pip}"]
        bundle = _ca_bundle()
        yield [*words, "--secret", f"id=ca,src={bundle}"] if bundle else words


def _ca_bundle() -> str:
    candidates = (os.environ.get("SSL_CERT_FILE"), os.environ.get("PIP_CERT"), CA)
    return next((path for path in candidates if path and Path(path).is_file()), "")


def _pip_conf() -> str:
    """This machine's pip settings that make sense in another file system."""
    parser = configparser.RawConfigParser()
    parser.add_section("global")
    for line in run(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        option, text = name.rsplit(".", 1)[-1], value.strip("'\"")
        if option in ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "retries"):
            parser.set("global", option, text)
    if _ca_bundle():
        parser.set("global", "cert", CA)
    text_file = io.StringIO()
    parser.write(text_file)
    return text_file.getvalue()
