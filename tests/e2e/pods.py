"""The pods that the tests on the full cluster share: one to run programs in, an echo, a talker, a web server."""

import json

from tests.e2e.entry import Entry
from tests.harness import images

NAMESPACE = "pods"
BOX = "box"
ECHO = "echo"
TALKER = "talker"
WEB = "web"
IMAGE = images.BOX
WEB_PORT = 8080
WEB_FILE_BYTES = 262_144

_IDLE = "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"
_ECHO = "while read line; do echo got:$line; done"
_TALK = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.1; done"
_WEB = (
    f"mkdir -p /tmp/www; for n in $(seq 0 19); do head -c {WEB_FILE_BYTES} /dev/urandom > /tmp/www/$n; done; "
    f"cd /tmp/www; sha256sum * > sums; exec httpd -f -p {WEB_PORT} -h /tmp/www"
)


def pod(name: str, script: str, *, stdin: bool = False) -> dict[str, object]:
    """A pod of one busybox container that runs `script`; it ends within a second when told to."""
    container: dict[str, object] = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
        "stdin": stdin,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [container]},
    }


async def ensure_pods(entry: Entry) -> None:
    """Make namespace and pods if they are not there, and wait until they run."""
    kubectl = entry.kubectl.inside(NAMESPACE)
    await kubectl("create", "namespace", NAMESPACE, rc=None)
    items = [pod(BOX, _IDLE), pod(ECHO, _ECHO, stdin=True), pod(TALKER, _TALK), pod(WEB, _WEB)]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode()
    await kubectl("apply", "-f", "-", stdin=manifest)
    names = [f"pod/{name}" for name in (BOX, ECHO, TALKER, WEB)]
    await kubectl("wait", "--for=condition=Ready", *names, "--timeout=60s", within=70)
