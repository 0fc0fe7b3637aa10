"""`riata agents`: who serves the clusters."""

from typing import Annotated

from cyclopts import App, Parameter

from ctl import client, options, output, terminal

app = App(name="agents", help="The agents that serve the clusters.")

KIND = output.Kind(
    "id",
    {
        "ID": lambda a: a.get("id"),
        "CLUSTER": lambda a: a.get("cluster"),
        "ROLE": lambda a: a.get("role"),
        "NODE": lambda a: a.get("node"),
        "STATE": lambda a: "revoked" if a.get("revokedAt") else "connected" if a.get("connected") else "away",
        "VERSION": lambda a: a.get("version"),
        "ADDRESS": lambda a: a.get("address"),
        "SINCE": lambda a: a.get("connectedSince"),
        "LAST-SEEN": lambda a: a.get("lastSeen"),
        "RTT": lambda a: None if a.get("rttSeconds") is None else f"{1000 * a['rttSeconds']:.1f}ms",
        "KEY-SINCE": lambda a: a.get("keySince"),
        "NODE-ROLES": lambda a: (a.get("registeredNode") or a.get("nodeFacts") or {}).get("roles"),
        "KUBELET": lambda a: (a.get("registeredNode") or {}).get("kubelet"),
    },
)

AgentId = Annotated[str, Parameter(name="ID", help="Id of the agent, as `riata agents list` shows it.")]


@app.command(name="list")
async def list_(
    *,
    cluster: Annotated[str, Parameter(help="Only this cluster's.")] = "",
    common: options.Common = options.COMMON,
) -> None:
    """List agents: each live session, and each enrolled agent without one."""
    asked = {"cluster": cluster} if cluster else {"limit": str(client.PAGE)}
    async with common.hub() as hub:
        found = await hub.items(client.target("v1", "agents"), **asked)
    # A hub that is older lists all of them.
    KIND.show_all([agent for agent in found if not cluster or agent.get("cluster") == cluster], common.output)


@app.command
async def revoke(agent_id: AgentId, /, *, profile: options.Profile = "") -> None:
    """Revoke an agent. Its sessions are cut at once, and its key never comes back; a node stays denied, also one that
    nobody knows yet."""
    async with options.Common(profile=profile).hub() as hub:
        answer = await hub.delete(client.target("v1", "agents", agent_id))
    terminal.say(f"agent {agent_id} revoked")
    if answer and answer.get("note"):
        which = options.typed(profile)
        terminal.say(
            f"note: {answer['note']}\n"
            f"  the names of its nodes:  riata clusters show {answer.get('cluster')}{which}\n"
            f"  to take this back:       riata agents readmit {agent_id}{which}"
        )


@app.command
async def readmit(agent_id: AgentId, /, *, profile: options.Profile = "") -> None:
    """Let the agent of a revoked node in again. An enrolled agent joins anew with a join token instead."""
    async with options.Common(profile=profile).hub() as hub:
        await hub.post(client.target("v1", "agents", agent_id, "readmit"), {})
    terminal.say(f"agent {agent_id} may come back")


@app.command(name="rotate-key")
async def rotate_key(agent_id: AgentId, /, *, profile: options.Profile = "") -> None:
    """Have a connected agent replace its key now. Nothing that runs is cut; the old key is dead within 60 seconds."""
    async with options.Common(profile=profile).hub() as hub:
        await hub.post(client.target("v1", "agents", agent_id, "rotate-key"), {})
    terminal.say(f"the key of agent {agent_id} was replaced")
