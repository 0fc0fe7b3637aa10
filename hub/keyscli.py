"""`riata-hub keys`: the encryption keys of a hub, listed, rotated and retired while it runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from hub import sealing
from hub.bootstrap import require_hub
from hub.config import Settings, load
from hub.printing import print_data, tell
from hub.store import sqlite
from hub.store.model import Resource
from hub.store.resealing import CHECK, FIELDS, keys_in_use

keys_app = App(name="keys", help="Encryption keys of the secrets in the store.")

Data = Annotated[Path | None, Parameter(help="Data directory of the hub (0700). Also RIATA_HUB_DATA.")]
Config = Annotated[Path | None, Parameter(help="TOML file with settings; hub.toml in the data directory if not given.")]
Output = Annotated[Literal["text", "json"], Parameter(name=["--output", "-o"], help="Form of what is printed.")]


@keys_app.command(name="list")
def list_keys(*, data: Data = None, config: Config = None, output: Output = "text") -> int:
    """Show each key by its id, and how many values are sealed with it. The hub may run."""
    settings, file = _place(data, config)
    _, ring = sealing.read(file)
    used = keys_in_use(_stored(settings))
    rows = [
        {"id": key.id, "role": "encrypts" if key == ring.current else "decrypts", "values": used.pop(key.id, 0)}
        for key in ring.keys
    ]
    rows += [{"id": key_id, "role": "missing", "values": count} for key_id, count in used.items()]
    if output == "json":
        print_data(json.dumps({"file": str(file), "keys": rows}))
    else:
        print_data(f"{'ID':16}  {'ROLE':8}  VALUES")
        for row in rows:
            print_data(f"{row['id']:16}  {row['role']:8}  {row['values']}")
    return 0


@keys_app.command
def rotate(*, data: Data = None, config: Config = None) -> int:
    """Put a new key first in the key file. A running hub takes it within 30 s and seals everything anew."""
    _, file = _place(data, config)
    ring = sealing.rotate(file)
    tell(f"{file}: key {ring.current.id} encrypts from now on; keep a copy of the file apart from the database")
    tell("next: when `riata-hub keys list` shows no value under an older key, `riata-hub keys retire`")
    return 0


@keys_app.command
def retire(*, data: Data = None, config: Config = None) -> int:
    """Remove the older keys from the key file, once nothing is sealed with them."""
    settings, file = _place(data, config)
    removed = sealing.retire(file, _stored(settings))
    tell(f"{file}: removed {', '.join(removed)}" if removed else f"{file} has one key: nothing to remove")
    return 0


def _place(data: Path | None, config: Path | None) -> tuple[Settings, Path]:
    settings = load({"data": data}, os.environ, config)
    require_hub(settings.data)
    return settings, sealing.place(settings.data, settings.encryption_key_file)


def _stored(settings: Settings) -> list[Resource]:
    return sqlite.peek(settings.data / sqlite.FILE_NAME, {*FIELDS, CHECK.kind})
