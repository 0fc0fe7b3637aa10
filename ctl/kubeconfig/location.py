"""Which kubeconfig files there are, and which one is written: client-go's rules.

Source: client-go tools/clientcmd/loader.go (ClientConfigLoadingRules) and config.go (PathOptions, ModifyConfig).
"""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence


def precedence(env: Mapping[str, str]) -> list[pathlib.Path]:
    """The files kubectl merges, first one wins: those of KUBECONFIG without repetitions, else ~/.kube/config, which
    without a HOME is below the working directory."""
    named = [part for part in env.get("KUBECONFIG", "").split(":") if part]
    if not named:
        named = [os.path.join(env.get("HOME", ""), ".kube", "config")]
    return [pathlib.Path(part) for part in dict.fromkeys(named)]


def destination(
    files: Sequence[pathlib.Path], exists: Callable[[pathlib.Path], bool] = pathlib.Path.exists
) -> pathlib.Path:
    """Where a new entry goes: the first file that exists, else the last one (PathOptions.GetDefaultFilename)."""
    return next((file for file in files if exists(file)), files[-1])
