"""Stand-ins for programs: small shell scripts in a directory that becomes the PATH."""

from pathlib import Path


def program(path: Path, script: str) -> Path:
    """An executable shell script at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def go(path: Path, version: str, building: str = 'while [ "$1" != -o ]; do shift; done; echo built > "$2"') -> Path:
    """A `go` of that version. Its `build` runs `building`; every call is a line of `calls` beside it."""
    calls = path.with_name("calls")
    return program(
        path,
        f'echo "$@" >> {calls}\n'
        f'if [ "$1" = version ]; then echo "go version go{version} linux/amd64"; exit 0; fi\n'
        f'{building}\n[ "$1" = -o ] && /bin/chmod 755 "$2"',
    )


def calls(path: Path) -> list[str]:
    """The argument lines of the calls of the stand-in in this directory."""
    file = path / "calls"
    return file.read_text().splitlines() if file.exists() else []
