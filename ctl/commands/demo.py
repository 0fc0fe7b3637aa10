"""`riata demo`."""

import functools
import pathlib
from typing import Annotated, Literal

from cyclopts import Parameter

from ctl import errors


async def demo(
    *,
    kubeconfig: Annotated[str, Parameter(help="Use clusters of this kubeconfig instead of making any.")] = "",
    context: Annotated[
        list[str] | None, Parameter(negative="", help="A context of it; may be repeated. Else its current one.")
    ] = None,
    light: Annotated[
        bool, Parameter(negative="", help="Make light clusters only, as without root: simulated nodes, no exec.")
    ] = False,
    keep: Annotated[bool, Parameter(negative="", help="Keep files and logs when it ends, and say where.")] = False,
    form: Annotated[
        Literal["table", "json"],
        Parameter(name=["--output", "-o"], help="json: one object when everything is ready, for scripts."),
    ] = "table",
) -> None:
    """Start a hub with clusters on this machine, give out a kubeconfig, and stay until Ctrl-C or SIGTERM.

    From a checkout it makes three clusters: with root on Linux one has a real node and real pods, the others an API
    server and simulated nodes. Everything listens on free ports of loopback and goes away at the end; what a demo left
    that was killed goes away when the next one starts. Under sudo the kubeconfig and what belongs to it are yours.

    With --kubeconfig it uses clusters you have. A local agent process carries the credentials of each context; they
    never reach the hub. One ClusterRoleBinding for the hub's administrators is made there and removed at the end.
    """
    from ctl.demo import borrowed, lifecycle, made  # rich's progress display is for nobody else

    if context and not kubeconfig:
        raise errors.UsageError("--context needs --kubeconfig")
    if light and kubeconfig:
        raise errors.UsageError("--light is for clusters that the demo makes: leave it out with --kubeconfig")
    source: lifecycle.Source = functools.partial(made.demo, keep=keep, light=light)
    if kubeconfig:
        source = functools.partial(borrowed.demo, kubeconfig=pathlib.Path(kubeconfig), contexts=context or [])
    await lifecycle.live(source, form=form, keep=keep)
