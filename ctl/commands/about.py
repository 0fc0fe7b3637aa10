"""`riata version` and `riata completion`."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from ctl import client, errors, options, output, terminal
from proto import versions

_KIND = output.Kind("version", {"PART": lambda v: v.get("part"), "VERSION": lambda v: v.get("version")})


async def version(
    *,
    client_only: Annotated[bool, Parameter(name="--client", negative="", help="Do not ask the hub.")] = False,
    common: options.Common = options.COMMON,
) -> None:
    """Show the version of this command, and of the hub when you are logged in to one."""
    parts: list[dict[str, object]] = [{"part": "riata", "version": versions.PRODUCT_VERSION}]
    if not client_only:
        parts += await _hub(common)
    if common.output in {"json", "yaml"}:
        output.document({str(p["part"]): p["version"] for p in parts}, common.output)
    else:
        _KIND.show_all(parts, common.output)


async def _hub(common: options.Common) -> list[dict[str, object]]:
    """The hub's version; none with a message when there is no hub to ask, because ours is an answer too."""
    try:
        async with common.hub() as hub:
            answer = await hub.get(client.target("version"))
    except errors.CommandError as exc:
        terminal.say(f"no version of a hub: {exc}")
        return []
    return [{"part": "hub", "version": answer.get("version") if isinstance(answer, dict) else None}]


def completion_of(root: App) -> App:
    """The command `completion` for the command tree `root`."""
    app = App(name="completion")

    @app.default
    def completion(
        shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Which shell it is for.")], /
    ) -> None:
        """Print a completion script: source <(riata completion bash)."""
        terminal.data(root.generate_completion(prog_name="riata", shell=shell))

    return app
