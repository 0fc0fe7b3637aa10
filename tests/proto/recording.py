"""A conversation that touches every frame type, its recorded bytes, and a way to play one side of them.

    python -m tests.proto.recording > tests/proto/recordings/v1.hex

Recordings are never rewritten: a new wire version adds a file, and the old ones must still be understood (the hub is
upgraded first; agents may be one version behind).
"""

import pathlib
import sys
from collections.abc import Callable, Iterable
from typing import Final

from proto import events, frames, messages
from proto.errors import Code
from proto.handshake import AgentHandshake, HubHandshake
from proto.limits import Limits
from proto.messages import StreamClass, StreamKind
from tests.proto.pair import INSTANCE, NONCE, Pair, Side

LIMITS: Final = Limits(window_bytes=2048, window_max_bytes=4096, ping_per_s=20.0)
"""Small windows, so that a WINDOW is in the recording without megabytes before it; and the pings that silence means."""

DIRECTORY: Final = pathlib.Path(__file__).parent / "recordings"

Steps = dict[str, list[tuple[str, bytes]]]
"""Step name -> (speaker, message) in order."""


def parse(text: str) -> Steps:
    """Read a recording: `# step` lines, then `hub> hex` and `agent> hex`."""
    steps: Steps = {}
    for line in text.splitlines():
        if line.startswith("# "):
            steps[line[2:]] = []
        elif line:
            speaker, _, digits = line.partition("> ")
            steps[list(steps)[-1]].append((speaker, bytes.fromhex(digits)))
    return steps


def render(steps: Steps) -> Iterable[str]:
    for name, said in steps.items():
        yield f"# {name}"
        yield from (f"{speaker}> {message.hex()}" for speaker, message in said)


def handshake() -> tuple[HubHandshake, AgentHandshake]:
    return HubHandshake("hub-1", NONCE, LIMITS, build="0.1.0"), AgentHandshake(
        "cluster", INSTANCE, 7, LIMITS, build="0.1.0", kubernetes="v1.37.2"
    )


def record_handshake() -> list[tuple[str, bytes]]:
    hub, agent = handshake()
    hello = hub.hello()
    agent.receive_hello(hello)
    auth = agent.auth(messages.Credential(scheme="bearer", value=b"riataagent_example_secret"))
    hub.receive(auth)
    return [("hub", hello), ("agent", auth), ("hub", hub.welcome(hub.make_welcome("session-1", "prod")))]


class Stage(Pair):
    """A pair that records what it says, or that hears one side from a recording instead."""

    def __init__(self, recorded: Steps | None = None, live: str = "") -> None:
        super().__init__(LIMITS, LIMITS)
        self.steps: Steps = {"handshake": record_handshake()}
        self._recorded = recorded
        self._live = live

    def step(self, name: str) -> None:
        """Deliver everything that waits. In a replay the live side hears the recording, and only that."""
        said = self.steps[name] = []
        if self._recorded is None:
            sides = ((self.hub, "hub"), (self.agent, "agent"))
            before = [len(side.sent) for side, _ in sides]
            self._pump_recording(said)
            assert all(len(side.sent) >= count for (side, _), count in zip(sides, before, strict=True))
            return
        live = self.hub if self._live == "hub" else self.agent
        shadow = self.agent if live is self.hub else self.hub
        for speaker, message in self._recorded[name]:
            if speaker != self._live:
                self._exchange(live, shadow)
                live.session.receive(message, self.now)
                live.collect()
        self._exchange(live, shadow)

    def _exchange(self, live: Side, shadow: Side) -> None:
        """Let the shadow follow the live side, so that the script can go on; what it says is not heard."""
        while live.session.has_output:
            self.move(live, shadow)
        shadow.flush()

    def _pump_recording(self, said: list[tuple[str, bytes]]) -> None:
        while self.hub.session.has_output or self.agent.session.has_output:
            for name, source, target in (("hub", self.hub, self.agent), ("agent", self.agent, self.hub)):
                if source.session.has_output and self.move(source, target):
                    said.append((name, source.sent[-1]))


def converse(stage: Stage) -> None:
    """The conversation. Every frame type and every message of version 1 occurs."""
    hub, agent = stage.hub, stage.agent
    stage.step("first pings")
    request = messages.HttpRequest(
        method="GET",
        path=b"/api/v1/namespaces/default/pods?limit=500",
        headers=((b"accept", b"application/json"), (b"impersonate-user", b"riata:alice")),
    )
    hub.session.open_stream(request, kind=StreamKind.HTTP, cls=StreamClass.NORMAL, end=True, now=stage.now)
    stage.step("get")
    agent.head(agent.taken(), messages.HttpHead(status=200, headers=((b"content-type", b"application/json"),)))
    agent.send(agent.taken(), b'{"kind":"PodList"}', end=True)
    stage.step("get answered")
    post = hub.request("POST", "/api/v1/namespaces")
    hub.send(post, b'{"kind":"Namespace"}', end=True)
    stage.step("post")
    agent.session.accept(agent.taken(), messages.Accepted())
    agent.head(agent.taken(), messages.HttpHead(status=201, headers=()))
    agent.send(agent.taken(), b"created")
    agent.session.send_trailers(agent.taken(), ((b"x-checksum", b"1"),), now=stage.now)
    stage.step("post answered")
    shell = hub.request("GET", "/exec", upgrade="SPDY/3.1", cls=StreamClass.INTERACTIVE)
    stage.step("upgrade")
    agent.head(agent.taken(), messages.HttpHead(status=101, headers=()))
    stage.step("switched")
    hub.send(shell, b"ls\n")
    agent.send(agent.taken(), b"x" * 1_500)
    stage.step("opaque bytes")
    hub.session.consumed(shell, 1_500)
    stage.step("credit")
    hub.session.reset_stream(shell, Code.CANCELLED, "client went away", now=stage.now)
    stage.step("cancelled")
    hub.dial()
    hub.session.open_stream(
        messages.Command(verb="snapshot", args={"keep": 3}, key="k-1"),
        kind=StreamKind.CMD,
        cls=StreamClass.BULK,
        end=True,
        now=stage.now,
    )
    hub.session.open_stream(
        messages.Subscription(topics=("events",)), kind=StreamKind.SUB, cls=StreamClass.BULK, end=True, now=stage.now
    )
    stage.step("other kinds")
    for event in agent.all(events.StreamOpened)[-3:]:
        agent.session.accept(event.stream, messages.Accepted())
    agent.session.send_message(1, b"sample", droppable=True)
    stage.step("accepted")
    hub.session._send_sync(stage.now)
    agent.session._send_sync(stage.now)
    stage.step("sync")
    agent.session.drain(30.0, Code.DRAINING, "rollout", retry_s=0.5, now=stage.now)
    stage.step("drain")
    agent.session.close(Code.CLOSED, "restarting")
    stage.step("goodbye")


def transcript(side: Side) -> list[str]:
    """Return what a side understood, one line an event."""
    describe: dict[type, Callable[..., str]] = {
        events.StreamOpened: lambda event: f"{event.stream.id} {event.stream.cls.name} {event.message} end={event.end}",
        events.StreamAccepted: lambda event: f"{event.stream.id}",
        events.HeadReceived: lambda event: f"{event.stream.id} {event.message} end={event.end}",
        events.DataReceived: lambda event: (
            f"{event.stream.id} {len(event.data)} {bytes(event.data[:20])!r} end={event.end}"
        ),
        events.TrailersReceived: lambda event: f"{event.stream.id} {event.headers}",
        events.StreamReset: lambda event: f"{event.stream.id} {event.code.name} {event.text!r}",
        events.MessageReceived: lambda event: f"{event.topic} {event.body!r} {event.droppable}",
        events.DrainReceived: lambda event: f"{event.code.name} {event.text!r} {event.drain_s} {event.retry_s}",
        events.SessionEnded: lambda event: f"{event.reason}",
    }
    return [f"{type(event).__name__} {describe[type(event)](event)}" for event in side.log if type(event) in describe]


def main() -> None:
    stage = Stage()
    converse(stage)
    sys.stdout.write("\n".join(render(stage.steps)) + "\n")


def frame_types(steps: Steps) -> set[int]:
    return {frame[0] for said in steps.values() for _, message in said for frame in frames.split(message)}


if __name__ == "__main__":
    main()
