"""`riata-hub ca`: replacing the hub's CA. Works on the data directory, whether the hub runs or not; a hub that runs
notices within seconds."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from hub import carotation, cawatch, certificate, tls
from hub.bootstrap import SetupError, require_hub
from hub.carotation import Phase
from hub.catrust import Rotation
from hub.clock import wall_clock
from hub.config import ConfigError, Settings, load
from hub.printing import print_data, require_stdout, tell
from proto import pins

ca_app = App(name="ca", help="The CA that the hub has made for itself.")

Data = Annotated[Path | None, Parameter(help="Data directory of the hub (0700). Also RIATA_HUB_DATA.")]
Config = Annotated[Path | None, Parameter(help="TOML file with settings; hub.toml in the data directory if not given.")]
Output = Annotated[Literal["text", "json"], Parameter(name=["--output", "-o"], help="Form of what is printed.")]

_NEXT: Final = {
    Phase.STEADY: "next, when it is time: riata-hub ca rotate",
    Phase.INTRODUCED: "next, once every agent knows it: riata-hub ca rotate --finish (or --abort)",
    Phase.SWITCHED: (
        "next: apply the manifests of clusters with node agents anew (riata clusters manifest, with the options of the"
        " first time), have users make their kubeconfigs anew (riata login, riata kubeconfig), then"
        " riata-hub ca rotate --retire"
    ),
}

_NEED: Final = (
    "agents and kubeconfigs that know nothing but it then need new manifests (riata clusters manifest) and"
    " `riata kubeconfig`"
)


@ca_app.command
def rotate(
    *,
    finish: Annotated[
        bool, Parameter(negative="", help="Have the new CA sign; refused while an agent does not know it.")
    ] = False,
    retire: Annotated[
        bool, Parameter(negative="", help="Accept the old CA no longer; refused while an agent would need it.")
    ] = False,
    abort: Annotated[bool, Parameter(negative="", help="Take a new CA back that has not signed yet.")] = False,
    force: Annotated[
        bool, Parameter(negative="", help="Go on although agents do not know the new CA: those will not come back.")
    ] = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Replace the hub's CA in three steps: without an option a new one is made and agents learn it; then --finish, then
    --retire. No step ends a session."""
    if finish + retire + abort > 1:
        raise ConfigError("--finish, --retire and --abort exclude each other: one step at a time")
    if force and not (finish or retire):
        raise ConfigError("--force belongs to --finish or --retire")
    directory = _directory(_settings(data, config))
    now = datetime.datetime.now(datetime.UTC)
    is_overdue = carotation.is_overdue(directory, now)
    if finish or retire:
        wanted = Phase.INTRODUCED if finish else Phase.SWITCHED
        if carotation.phase(directory) is wanted and not force and not is_overdue:
            _refuse_unready(directory, wanted, "--finish" if finish else "--retire")
        (carotation.switch if finish else carotation.retire)(directory)
        tell("the new CA signs now" if finish else "the old CA is accepted no longer")
        if is_overdue:
            tell(f"the CA before it has ended: {_NEED}")
    elif abort:
        if is_overdue:
            raise SetupError(
                "--abort: the CA of today has ended, so the new one is all that agents can know this hub by: set this"
                " machine's clock right, or go on with `riata-hub ca rotate --finish`"
            )
        carotation.abort(directory)
        tell("the new CA was taken back")
    else:
        require_stdout()
        pin = carotation.begin(directory, now)
        tell("a new CA was made; a hub that runs tells its agents within seconds (riata-hub ca status)")
        print_data(pin)
        if not carotation.convinces_go(directory):
            tell(
                "kubeconfigs of today will not do for kubectl after --finish: have users run `riata kubeconfig` before"
            )
        if until := carotation.ends_soon(directory, now):
            tell(
                f"the CA of today ends at {until:%Y-%m-%d %H:%M} UTC: --finish before that, else the hub does it then;"
                f" {_NEED}"
            )
    tell(_NEXT[carotation.phase(directory)])
    return 0


@ca_app.command
def status(*, data: Data = None, config: Config = None, output: Output = "text") -> int:
    """Show where a rotation is, and which agents do not know the new CA."""
    directory = _directory(_settings(data, config))
    phase = carotation.phase(directory)
    found = cawatch.read(directory)
    is_asked = phase is not Phase.STEADY  # else what agents know concerns nobody, and the hub writes nothing new of it
    known = _current(directory, found, phase) if is_asked else None
    if output == "json":
        print_data(json.dumps({**_files(directory, phase), "agents": found.get("agents") if known else None}))
        return 0
    for name, value in _files(directory, phase).items():
        print_data(f"{name}: {', '.join(value) if isinstance(value, list) else value}")
    if known is not None:
        unready = known.unready()
        print_data(f"agents: {len(known.agents)}, not ready for the next step: {len(unready)}")
        for each in unready:
            print_data(f"  {each.text}")
    elif is_asked:
        tell("the hub does not run, or has not looked yet: what its agents know is not known")
    tell(_NEXT[phase])
    return 0


def _files(directory: Path, phase: Phase) -> dict[str, Any]:
    accepted = [directory / tls.CA_CERT, *(path for path in carotation.accepted(directory) if path.exists())]
    return {"phase": phase.value, "pins": [pins.pins_of_pem(path.read_bytes())[0] for path in accepted]}


def _refuse_unready(directory: Path, wanted: Phase, option: str) -> None:
    """Raises SetupError that names who is not ready."""
    known = _current(directory, cawatch.read(directory), wanted)
    if known is None:
        raise SetupError(
            f"{option}: the hub does not run, or has not noticed the last step yet, so nobody knows what its agents"
            f" trust: start it and wait some seconds. {option} --force goes on without asking"
        )
    unready = known.unready()
    if unready:
        raise SetupError(
            f"{option}: {len(unready)} agents would not know this hub any more: {cawatch.named(unready)}."
            f" Wait for them, revoke or re-install them; {option} --force leaves them behind"
        )


def _current(directory: Path, found: dict[str, Any], phase: Phase) -> Rotation | None:
    """What a hub that runs says of this phase; None when none does."""
    known = cawatch.of_document(found)
    at = found.get("at")
    is_fresh = isinstance(at, int | float) and abs(wall_clock() - at) <= cawatch.FRESH_S
    return known if known is not None and is_fresh and known.phase is phase else None


def _settings(data: Path | None, config: Path | None) -> Settings:
    settings = load({"data": data}, os.environ, config)
    require_hub(settings.data)
    return settings


def _directory(settings: Settings) -> Path:
    """Raises SetupError where the hub has no CA of its own in use."""
    if not certificate.is_self_made(settings):
        raise SetupError(
            "this hub does not use a CA of its own (tls_cert or plain_http is set): put the new CA behind the old one"
            " into the file of tls_ca, wait until GET /v1/ca/rotation shows that agents know it, replace the"
            " certificate, then take the old CA out"
        )
    return settings.data / tls.DIRECTORY
