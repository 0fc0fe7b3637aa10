"""Real Kubernetes clusters, hubs and agents as processes, for tests and for `riata demo`.

Every process dies with the one that started it, however that one ends; what is left on disk, a later run removes.
"""

from tests.harness.agent_pod import AgentPod
from tests.harness.agents import Agent, agent
from tests.harness.applied import applied_agent, applied_node_agent
from tests.harness.clusters import Cluster
from tests.harness.commands import Result, execute, kubectl, kubectl_command
from tests.harness.failures import HarnessError, MissingTool
from tests.harness.full import full
from tests.harness.hub_api import HubApi
from tests.harness.hubs import Hub, hub, kubeconfig
from tests.harness.light import light
from tests.harness.tools import full_obstacle, light_obstacle

__all__ = [
    "Agent",
    "AgentPod",
    "Cluster",
    "HarnessError",
    "Hub",
    "HubApi",
    "MissingTool",
    "Result",
    "agent",
    "applied_agent",
    "applied_node_agent",
    "execute",
    "full",
    "full_obstacle",
    "hub",
    "kubeconfig",
    "kubectl",
    "kubectl_command",
    "light",
    "light_obstacle",
]
