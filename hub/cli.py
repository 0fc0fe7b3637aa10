"""`riata-hub`: init, serve, admin-token, backup, config show, version. Data on stdout, everything else on stderr.

Exit status: 0 done, 1 failed, 2 wrong usage or settings.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from hub import floors, ownership
from hub.bootstrap import (
    SetupError,
    initialise,
    is_initialised,
    make_admin_token,
    read_hub_id,
    refuse_existing,
    require_hub,
)
from hub.cacli import ca_app
from hub.clock import wall_clock
from hub.config import FILE_NAME as CONFIG_NAME
from hub.config import ConfigError, effective, load
from hub.keyscli import keys_app
from hub.printing import print_data, require_stdout, tell
from hub.store import backup as backups
from hub.store.model import StoreError
from hub.store.sqlite import FILE_NAME, SqliteStore
from hub.tls import TlsError, making_private
from proto import logs
from proto.aio import loop
from proto.versions import PRODUCT_VERSION, WIRE_VERSION

app = App(
    name="riata-hub",
    help="The hub of a fleet of Kubernetes clusters.",
    version=PRODUCT_VERSION,
    error_console=Console(stderr=True),
)
config_app = App(name="config", help="Settings.")
app.command(config_app)
app.command(keys_app)
app.command(ca_app)

Data = Annotated[Path | None, Parameter(help="Data directory of the hub (0700). Also RIATA_HUB_DATA.")]
Config = Annotated[Path | None, Parameter(help="TOML file with settings; hub.toml in the data directory if not given.")]
TokenFile = Annotated[Path | None, Parameter(help="Write the token to this new file (0600) instead of showing it.")]
Output = Annotated[Literal["text", "json"], Parameter(name=["--output", "-o"], help="Form of what is printed.")]


@app.command
def init(
    *,
    data: Data = None,
    config: Config = None,
    public_url: Annotated[str | None, Parameter(help="URL under which users and agents will reach the hub.")] = None,
    admin_token_file: TokenFile = None,
    if_needed: Annotated[
        bool, Parameter(negative="", help="Done when the hub is set up already; for an init container.")
    ] = False,
    output: Output = "text",
) -> int:
    """Set up a new hub: directory, CA, database, and an administrator's token that is shown once."""
    settings = load({"data": data, "public_url": public_url}, os.environ, config)
    if if_needed and loop.run(is_initialised(settings.data)):
        tell(f"{settings.data} is initialised already")
        return 0
    if output == "json" or admin_token_file is None:
        require_stdout()
    if if_needed and admin_token_file is not None and (settings.data / FILE_NAME).exists():
        admin_token_file.unlink(missing_ok=True)  # of an attempt that did not come to its end
    made = loop.run(
        initialise(
            settings.data,
            public_url=settings.public_url,
            token_file=admin_token_file,
            key_file=settings.encryption_key_file,
        )
    )
    if output == "json":
        shown: dict[str, str] = {
            "hub_id": made.hub_id,
            "data": str(made.data),
            "ca_file": str(made.ca_file),
            "ca_pin": made.ca_pin,
        }
        shown |= _token_fields(made.admin_token, admin_token_file)
        print_data(json.dumps(shown))
        return 0
    tell(f"hub initialised in {made.data}; its CA is {made.ca_file}")
    tell(f"pin of the CA: {made.ca_pin}")
    _show_token(made.admin_token, admin_token_file)
    tell(f"next: riata-hub serve --data {made.data}")
    return 0


@app.command
def serve(
    *,
    data: Data = None,
    config: Config = None,
    workers: Annotated[
        int | None, Parameter(help="Processes that serve, about one a core (Linux); 1 by default.")
    ] = None,
    listen: Annotated[
        list[str] | None, Parameter(negative="", help="HOST:PORT, repeatable; port 0 takes a free one.")
    ] = None,
    metrics_listen: Annotated[str | None, Parameter(help="HOST:PORT of /metrics; empty turns it off.")] = None,
    public_url: Annotated[str | None, Parameter(help="URL under which users and agents reach the hub.")] = None,
    tls_cert: Annotated[Path | None, Parameter(help="Own certificate with its chain (PEM).")] = None,
    tls_key: Annotated[Path | None, Parameter(help="Private key of --tls-cert (PEM).")] = None,
    tls_ca: Annotated[Path | None, Parameter(help="CA of --tls-cert (PEM), given out at /v1/ca.")] = None,
    plain_http: Annotated[
        bool | None, Parameter(negative="", help="No TLS; only allowed on loopback addresses.")
    ] = None,
    ready_file: Annotated[
        Path | None, Parameter(help="Gets JSON with addresses and pins once the hub listens.")
    ] = None,
    log_format: Annotated[Literal["json", "console"] | None, Parameter(help="Form of the log on stderr.")] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        Parameter(help="Least severe level that is logged; audit events always are."),
    ] = None,
) -> int:
    """Run the hub until SIGTERM. Settings come from flags, then RIATA_HUB_*, then the TOML file."""
    from hub.app import serve as serve_hub

    flags = {
        "data": data,
        "workers": workers,
        "listen": listen,
        "metrics_listen": metrics_listen,
        "public_url": public_url,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tls_ca": tls_ca,
        "plain_http": plain_http,
        "ready_file": ready_file,
        "log_format": log_format,
        "log_level": log_level,
    }
    settings = load(flags, os.environ, config)
    logs.configure(component="hub", log_format=settings.log_format, level=settings.log_level)
    logs.log_uncaught()
    floors.check()
    loop.settle()
    if settings.workers == 1:
        return loop.run(serve_hub(settings))
    from hub.workers.supervisor import build

    return loop.run(serve_hub(settings, build))


@app.command(name="admin-token")
def admin_token(
    *, data: Data = None, config: Config = None, admin_token_file: TokenFile = None, output: Output = "text"
) -> int:
    """Make another administrator's token, when the first one is lost or has expired. The hub must be stopped."""
    settings = load({"data": data}, os.environ, config)
    if output == "json" or admin_token_file is None:
        require_stdout()
    refuse_existing(admin_token_file)
    require_hub(settings.data)
    token = loop.run(_make_admin_token(settings.data, admin_token_file))
    if output == "json":
        print_data(json.dumps(_token_fields(token, admin_token_file)))
    else:
        _show_token(token, admin_token_file)
    return 0


@app.command
def backup(
    to: Annotated[Path, Parameter(allow_leading_hyphen=True, help="The new file, or `-`.")],
    /,
    *,
    data: Data = None,
    config: Config = None,
) -> int:
    """Copy the database as it is now to a new file (0600), or to stdout for `-`. The hub may run."""
    settings = load({"data": data}, os.environ, config)
    require_hub(settings.data)
    is_stdout = str(to) == "-"
    if is_stdout:
        require_stdout()
    elif to.exists():
        raise SetupError(f"{to} exists already: name a file that does not")
    database = settings.data / FILE_NAME
    if is_stdout:
        with backups.nameless(database) as copied:
            shutil.copyfileobj(copied, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    else:
        with making_private(to, is_new=True, is_hubs=False) as made:
            backups.write(database, Path(made.name))
        tell(f"{to.stat().st_size} bytes written to {to}")
    tell(f"a whole backup has {CONFIG_NAME} and, apart from it, the encryption key file: what is sealed opens with it")
    return 0


@config_app.command
def show(*, data: Data = None, config: Config = None) -> int:
    """Print the settings as they are in effect, as JSON. They hold no secrets, only paths of files with secrets."""
    settings = load({"data": data}, os.environ, config)
    print_data(json.dumps(effective(settings), indent=2))
    return 0


@app.command
def version(*, output: Output = "text") -> int:
    """Print the version."""
    shown = {"version": PRODUCT_VERSION, "wireVersion": WIRE_VERSION}
    print_data(json.dumps(shown) if output == "json" else f"riata-hub {PRODUCT_VERSION} (wire {WIRE_VERSION})")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status. Errors that an operator can cure are one line, not a traceback."""
    try:
        status = app(arguments, result_action="return_value", exit_on_error=False, print_error=True)
    except CycloptsError:  # printed already
        return 2
    except (ConfigError, floors.TooOld) as exc:
        tell(f"riata-hub: {exc}")
        return 2
    except (SetupError, StoreError, TlsError) as exc:
        tell(f"riata-hub: {exc}")
        return 1
    except OSError as exc:
        tell(f"riata-hub: {_fault(exc)}")
        return 1
    return status if isinstance(status, int) else 0


def _fault(exc: OSError) -> str:
    if exc.errno == errno.EACCES and exc.filename and os.path.exists(exc.filename):
        return f"{exc.filename}: {ownership.closed(Path(exc.filename))}"
    return f"{exc.strerror or exc}{f': {exc.filename}' if exc.filename else ''}"


async def _make_admin_token(data: Path, token_file: Path | None) -> str:
    store = await SqliteStore.open(data / FILE_NAME)
    try:
        await read_hub_id(store)
        return await make_admin_token(store, wall_clock, token_file)
    finally:
        await store.close()


def _token_fields(token: str, file: Path | None) -> dict[str, str]:
    return {"admin_token": token} if file is None else {"admin_token_file": str(file)}


def _show_token(token: str, file: Path | None) -> None:
    if file is not None:
        tell(f"administrator's token written to {file}")
        return
    tell("administrator's token, shown only now:")
    print_data(token)
