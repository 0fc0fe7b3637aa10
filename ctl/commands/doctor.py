"""`riata doctor`."""

import time
from typing import Annotated

from cyclopts import Parameter

from ctl import errors, options, output, terminal
from ctl.doctor import report
from proto import findings
from proto.causes import Level


async def doctor(
    *clusters: Annotated[str, Parameter(help="Only these clusters. One that never connected is then a failure too.")],
    common: options.Common = options.COMMON,
) -> None:
    """Check the way to the hub, the login, each cluster's connection and kubectl's own file: one line a check.

    A line says ok, warn, fail, or not-run (something before it failed), what it means and the cure. Nothing is changed.
    Exit code 1 when a check failed. The cluster's side: riata-agent doctor, in the agent's pod.
    """
    found = await report.examine(common.profile, clusters, time.clock_gettime(time.CLOCK_REALTIME))
    if common.output in {"json", "yaml"}:
        output.document(findings.document(found), common.output)
    elif common.output == "name":
        terminal.data("\n".join(f"{finding.level.value} {finding.cause or finding.check}" for finding in found))
    else:
        terminal.data(findings.render(found))
    failed = sum(finding.level is Level.FAIL for finding in found)
    if findings.exit_code(found):
        raise errors.CommandError(f"{failed} of {len(found)} checks failed", cure="each line above has its cure")
