"""The images, as files: made once a run, from the layers in the user's cache."""

from pathlib import Path

import pytest

from deploy.images import base, build

Archives = dict[str, Path]


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """Archive by image name, and the agent's again as `riata-agent:next`, the version to roll to."""
    directory = tmp_path_factory.mktemp("images")
    found = {}
    for image in build.IMAGES:
        found[image.name] = directory / f"{image.name}.tar"
        found[image.name].write_bytes(build.build(image, base.cache_root()))
    agent = build.IMAGES[1]
    found[f"{agent.name}:next"] = directory / "next.tar"
    found[f"{agent.name}:next"].write_bytes(build.build(agent, base.cache_root(), tag="next"))
    return found
