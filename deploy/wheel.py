"""The wheel for the Dockerfiles: `python -m deploy.wheel DIRECTORY`, in an environment of requirements/build.txt.

Compiled where it can be (docs/adr/0025-compiled.md); otherwise it says why not, and the image takes half more CPU.
"""

import sys
from pathlib import Path

from deploy import runtime
from deploy.images import wheels
from deploy.images.base import REPOSITORY
from deploy.images.debian import BuildError


def main(arguments: list[str]) -> int:
    why_not = runtime.here_obstacle()
    if why_not is not None:
        print(f"Wheel: not compiled, which costs half more CPU: {why_not}", file=sys.stderr)
    try:
        made = wheels.build_wheel(REPOSITORY, Path(arguments[0]), is_compiled=why_not is None)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Wheel: {made}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
