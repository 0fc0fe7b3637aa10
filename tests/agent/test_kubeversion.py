"""The API server's version."""

from agent.kubeconfig import KubeAccess
from agent.kubeversion import KubeVersion
from agent.relay.credential import FixedToken
from agent.relay.endpoint import Endpoint, KubeTrust
from tests.agent.apiserver import Pki, api_server, json_answer


async def version(tmp_path, answer):
    pki = Pki(tmp_path)

    async def script(head, reader, writer):
        writer.write(answer)
        writer.close()

    async with api_server(pki, script) as (server, port):
        access = KubeAccess(
            Endpoint.from_url(f"https://localhost:{port}/base"), KubeTrust(ca_file=pki.ca_file), FixedToken("t")
        )
        asked = KubeVersion(access)
        first = await asked.get()
        again = await asked.get()
        assert first == again
        return first, server


async def test_it_is_asked_once_with_the_agents_token(tmp_path):
    text, server = await version(tmp_path, json_answer(b'{"gitVersion":"v1.37.2"}'))
    assert text == "v1.37.2"
    assert server.connections == 1
    assert server.heads[0].startswith(b"GET /base/version HTTP/1.1\r\n")
    assert b"authorization: Bearer t\r\n" in server.heads[0]


async def test_whatever_goes_wrong_it_is_only_unknown(tmp_path):
    for answer in (
        b"",
        b"junk\r\n\r\n",
        json_answer(b"{}"),
        json_answer(b"[]"),
        json_answer(b'{"gitVersion":"a\\nb"}'),
    ):
        assert (await version(tmp_path, answer))[0] == ""
    assert (await version(tmp_path, json_answer(b"{}", b"403 Forbidden")))[0] == ""
