"""hub/workers/worker.py: settings on their way to a worker."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hub import config
from hub.workers.worker import settings_from, settings_text

MIB = 1024 * 1024


def settings(**values: object) -> config.Settings:
    return config.build({name: (value, "test") for name, value in {"data": "/d", "workers": 4, **values}.items()})


def test_a_worker_has_the_settings_of_its_hub() -> None:
    given = settings(
        listen=["127.0.0.1:1", "[::1]:2"],
        tls_cert="/c",
        tls_key="/k",
        buffer_bytes=64 * MIB,
        **{"edge.head_timeout_s": 3, "tunnel.streams": 100, "proxy.per_user": 7},
    )
    assert settings_from(settings_text(given)) == dataclasses.replace(given, buffer_bytes=16 * MIB)
    assert settings_from(settings_text(given)).tls_cert == Path("/c")


def test_buffers_are_shared_out() -> None:
    whole = settings_from(settings_text(settings(workers=1))).buffer_bytes
    assert whole > 0
    assert settings_from(settings_text(settings(workers=4))).buffer_bytes == whole // 4
    assert settings_from(settings_text(settings(workers=64, buffer_bytes=MIB))).buffer_bytes == MIB
