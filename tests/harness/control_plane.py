"""etcd, kube-apiserver, and where asked controller-manager and scheduler, of one cluster."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.harness import kubeconfigs, pki, tools
from tests.harness.children import Child
from tests.harness.commands import Result, execute
from tests.harness.failures import HarnessError
from tests.harness.readiness import ready

SERVICE_RANGE: Final = "10.0.0.0/24"
SERVICE_ADDRESS: Final = "10.0.0.1"
ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
_READY_S: Final = 90.0
_ACCOUNT_S: Final = 60


@dataclass(frozen=True)
class Settings:
    """What differs between clusters. `address` is what the API server binds and advertises to its agents."""

    directory: Path
    address: str
    port: int
    etcd_ports: tuple[int, int]
    controller_manager_port: int
    scheduler_port: int
    controller_manager: bool
    scheduler: bool
    advertise: str | None = None
    extra_hosts: tuple[str, ...] = ()


class ControlPlane:
    """The four programs; `children` by role, in the order of their start."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.children: dict[str, Child] = {}
        self.url = f"https://127.0.0.1:{settings.port}"
        self._pki = settings.directory / "pki"

    @property
    def ca(self) -> Path:
        return self._pki / "ca.crt"

    def ca_bundle(self) -> str:
        """The CA as Kubernetes objects carry it."""
        return base64.b64encode(self.ca.read_bytes()).decode()

    async def kubectl(self, *arguments: str, stdin: str | None = None, timeout_s: float = 60) -> Result:
        """kubectl as administrator, from where this control plane runs. Raises HarnessError when it fails."""
        command = [tools.kube("kubectl"), "--kubeconfig", str(self.admin_kubeconfig), *arguments]
        return (await execute(command, stdin=stdin, timeout=timeout_s)).check()

    @property
    def admin_kubeconfig(self) -> Path:
        return self.settings.directory / "admin.kubeconfig"

    def write_credentials(self) -> pki.Authority:
        """Keys, certificates and kubeconfigs of every component. Returns the cluster's CA."""
        self._pki.mkdir()
        authority = pki.Authority.create(self._pki, "ca")
        front = pki.Authority.create(self._pki, "front-proxy-ca")
        front.leaf("front-proxy-client", "front-proxy-client")
        pki.signing_key(self._pki, "sa")
        names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1")
        hosts = dict.fromkeys((*names, SERVICE_ADDRESS, self.settings.address, *self.settings.extra_hosts))
        authority.leaf("apiserver", "kube-apiserver", hosts=[each for each in hosts if each != "0.0.0.0"])
        authority.leaf("kubelet-client", "kube-apiserver-kubelet-client", organizations=["system:masters"])
        self.identity(authority, "admin", "admin", "system:masters")
        self.identity(authority, "controller-manager", "system:kube-controller-manager")
        self.identity(authority, "scheduler", "system:kube-scheduler")
        return authority

    def identity(self, authority: pki.Authority, name: str, user: str, *groups: str) -> Path:
        """A client certificate and the kubeconfig that uses it."""
        pair = authority.leaf(name, user, organizations=groups)
        path = self.settings.directory / f"{name}.kubeconfig"
        return kubeconfigs.with_certificate(path, url=self.url, ca=self.ca, pair=pair, name=name)

    async def start(self) -> None:
        """Start the programs and wait until the API server is ready. Raises HarnessError."""
        self._spawn("etcd", self._etcd())
        self._spawn("kube-apiserver", self._apiserver())
        client = pki.Pair(self._pki / "admin.crt", self._pki / "admin.key")
        await ready(self.url, ca=self.ca, client=client, timeout_s=_READY_S, alive=list(self.children.values()))
        if self.settings.controller_manager:
            self._spawn("kube-controller-manager", self._controller_manager())
        if self.settings.scheduler:
            self._spawn("kube-scheduler", self._scheduler())
        if self.settings.controller_manager:
            await self._first_account()

    async def _first_account(self) -> None:
        """Without its ServiceAccount the namespace `default` takes no pod."""
        await self.kubectl("wait", "--for=create", "serviceaccount/default", f"--timeout={_ACCOUNT_S}s", timeout_s=90)

    async def stop(self) -> None:
        """Controllers first, then the API server, and etcd only when that is gone: without etcd it would hang."""
        controllers = [self.children.get(role) for role in ("kube-scheduler", "kube-controller-manager")]
        await asyncio.gather(*(child.stop(3) for child in controllers if child))
        for role in ("kube-apiserver", "etcd"):
            if role in self.children:
                await self.children[role].stop(5)

    def check(self) -> None:
        """Raise HarnessError when a component is gone."""
        for child in self.children.values():
            child.check()

    def _spawn(self, role: str, arguments: list[str]) -> None:
        directory = self.settings.directory
        log = directory / f"{role}.log"
        self.children[role] = Child.start(role, [tools.kube(role), *arguments], log=log, cwd=directory)

    def _etcd(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{port}" for port in self.settings.etcd_ports)
        return [
            f"--data-dir={self.settings.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",  # a test cluster's data need not survive a power cut
            "--log-level=warn",
        ]

    def _apiserver(self) -> list[str]:
        keys, settings = self._pki, self.settings
        flags = {
            "etcd-servers": f"http://127.0.0.1:{settings.etcd_ports[0]}",
            "secure-port": settings.port,
            "bind-address": settings.address,
            "tls-cert-file": keys / "apiserver.crt",
            "tls-private-key-file": keys / "apiserver.key",
            "client-ca-file": self.ca,
            "cert-dir": settings.directory / "apiserver-certs",
            "authorization-mode": "Node,RBAC",
            # As every installer has it: a kubelet changes its own node only, and no label of a restricted prefix.
            "enable-admission-plugins": "NodeRestriction",
            "service-account-issuer": ISSUER,
            "service-account-key-file": keys / "sa.pub",
            "service-account-signing-key-file": keys / "sa.key",
            "service-cluster-ip-range": SERVICE_RANGE,
            "kubelet-client-certificate": keys / "kubelet-client.crt",
            "kubelet-client-key": keys / "kubelet-client.key",
            "kubelet-certificate-authority": self.ca,
            "kubelet-preferred-address-types": "InternalIP",
            "requestheader-client-ca-file": keys / "front-proxy-ca.crt",
            "requestheader-allowed-names": "front-proxy-client",
            "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "proxy-client-cert-file": keys / "front-proxy-client.crt",
            "proxy-client-key-file": keys / "front-proxy-client.key",
            "enable-aggregator-routing": "true",
            "allow-privileged": "true",
            "profiling": "false",
        }
        if settings.advertise:
            flags["advertise-address"] = settings.advertise
        else:
            # The endpoints of the service `kubernetes` may not be loopback addresses.
            flags |= {"advertise-address": settings.address, "endpoint-reconciler-type": "none"}
        if not settings.controller_manager:
            # Nobody would make the ServiceAccounts that this plug-in wants to see before it lets a pod in.
            flags["disable-admission-plugins"] = "ServiceAccount"
        return [f"--{name}={value}" for name, value in flags.items()]

    def _controller_manager(self) -> list[str]:
        directory = self.settings.directory
        return [
            f"--kubeconfig={directory / 'controller-manager.kubeconfig'}",
            f"--service-account-private-key-file={self._pki / 'sa.key'}",
            f"--root-ca-file={self.ca}",
            f"--cluster-signing-cert-file={self.ca}",
            f"--cluster-signing-key-file={self._pki / 'ca.key'}",
            "--use-service-account-credentials=true",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.settings.controller_manager_port}",
            f"--cert-dir={directory / 'controller-manager-certs'}",
            "--leader-elect=false",
        ]

    def _scheduler(self) -> list[str]:
        directory = self.settings.directory
        return [
            f"--kubeconfig={directory / 'scheduler.kubeconfig'}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.settings.scheduler_port}",
            f"--cert-dir={directory / 'scheduler-certs'}",
            "--leader-elect=false",
        ]


async def started(make: Callable[[], ControlPlane], attempts: int = 2) -> ControlPlane:
    """A running control plane; a second attempt with fresh ports when the first one cannot come up."""
    for attempt in range(1, attempts + 1):
        plane = make()
        try:
            plane.write_credentials()
            await plane.start()
        except HarnessError:
            await plane.stop()
            if attempt == attempts:
                raise
        except BaseException:
            await plane.stop()
            raise
        else:
            return plane
    raise AssertionError("unreachable")
