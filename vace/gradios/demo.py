"""The verb behind `vace demo`: serves the pages until it is stopped."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vace.errors import InputError, MissingDependency

if TYPE_CHECKING:
    from vace.gradios.studio import Studio

log = logging.getLogger("vace")

PAGES = ("all", "preprocess", "wan", "ltx")
HOST, PORT, UPLOAD_MB = "127.0.0.1", 7860, 512
SWEEP_EVERY = 3600  # seconds between looks for old uploads


def demo(
    page: str = "all",
    *,
    host: str = HOST,
    port: int = PORT,
    share: bool = False,
    root_path: str | None = None,
    out: str | Path = ".",
    gpus: str | None = None,
    device: str = "auto",
    model_name: str | None = None,
    ckpt_dir: str | None = None,
    max_upload: int = UPLOAD_MB,
    no_download: bool = False,
    open: bool = False,
    progress: bool = True,
) -> None:
    """Serve the pages on http://host:port until KeyboardInterrupt, which is raised on.

    page: one of PAGES. share: also by a public link of Gradio's. root_path: where a proxy in front mounts the pages.
    out: holds uploads/, processed/ and results/. gpus: CUDA devices by number, a job at a time on each. device: of jobs
    without gpus. model_name, ckpt_dir: a model to offer first, besides those found. max_upload: MB a file may have.
    open: in the browser of this machine. Raises InputError for a value that cannot be used, MissingDependency without
    Gradio, and what `vace.gradios.offers.offered_models` raises.
    """
    devices = _checked(page, host, port, max_upload, gpus, device)
    address = _free_address(host, port)
    out = Path(out).resolve()
    # Read when gradio is imported: uploads beside the results, and nothing told to anyone.
    os.environ |= {"GRADIO_TEMP_DIR": str(out / "uploads" / "cache"), "GRADIO_ANALYTICS_ENABLED": "False"}
    try:
        import gradio  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependency("Gradio is not installed; run `bash scripts/setup.sh demo`") from error
    from vace.gradios import guard
    from vace.gradios.offers import offered_models
    from vace.gradios.pages import build, launch_options
    from vace.gradios.studio import Studio
    from vace.gradios.workers import Workers

    base = page if page in ("wan", "ltx") else None
    models = offered_models(base, model_name, ckpt_dir, no_download)
    workers = Workers(devices, early=True)
    studio = Studio(out, workers, models, device=device, upload_mb=max_upload, no_download=no_download)
    app = build(studio, page)
    guard.close_ways_out()
    rules = guard.rules_for(host, is_local(host), share, root_path)
    threading.Thread(target=_keep_swept, args=(studio,), daemon=True, name="vace sweeper").start()
    try:
        app.launch(
            server_name=host, server_port=port, share=share, root_path=root_path, inbrowser=open,
            app_kwargs={"middleware": guard.middleware(rules, studio)}, **launch_options(studio),
        )  # fmt: skip
        log.info("open %s in a browser; Ctrl-C here stops it", app.share_url or address)
        if share:
            log.warning("anyone who has this link can use this machine: %s", app.share_url)
        never = threading.Event()
        while not never.wait(0.5):  # in pieces: an endless wait hears no Ctrl-C on Windows
            pass
    finally:
        workers.close()
        app.close()


def _keep_swept(studio: Studio) -> None:
    while True:
        time.sleep(SWEEP_EVERY)
        try:
            studio.sweep()
        except Exception as error:  # or the disk would fill from then on
            log.warning("old uploads cannot be removed: %s", error)


def _checked(page: str, host: str, port: int, max_upload: int, gpus: str | None, device: str) -> tuple[str, ...]:
    """The devices of the workers. Raises InputError, DeviceError."""
    from vace.devices import pick_device
    from vace.materials import check_number

    if page not in PAGES:
        raise InputError(f"demo {page}: no such page; give one of {', '.join(PAGES)}")
    if not host.strip():
        raise InputError("--host '': is empty, which would be every address; give one, such as 127.0.0.1")
    check_number("port", port, 1, 65535, whole=True)
    check_number("max_upload", max_upload, 1, whole=True)
    if gpus is None:
        pick_device(device)
        return (device,)
    numbers = [number.strip() for number in gpus.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise InputError(f"--gpus {gpus}: give numbers of CUDA devices, separated by commas, such as 0,1")
    for number in numbers:
        pick_device(f"cuda:{number}")
    return tuple(f"cuda:{number}" for number in numbers)


def _free_address(host: str, port: int) -> str:
    """http://HOST:PORT; InputError where nothing can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        remedy = "give another --port" if port_is_taken(error) else "give an address of this machine, such as 127.0.0.1"
        raise InputError(f"--host {host} --port {port}: cannot listen there ({error.strerror}); {remedy}") from error
    if not is_local(host):
        log.warning("--host %s: whoever reaches this machine can use these pages; there is no password", host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def port_is_taken(error: OSError) -> bool:
    import errno

    return error.errno in (errno.EADDRINUSE, errno.EACCES)


def is_local(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
