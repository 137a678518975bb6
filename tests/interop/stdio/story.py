"""The official Python SDK's stdio client, in both of its eras: two programs share one token file, and the one that is
the server is killed. Runs under with-demo, whose stand-ins for Entra and the API it uses, with the program in
RELEASE_BINARY."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import tempfile
from pathlib import Path

from mcp import Client, MCPError, StdioServerParameters, UrlElicitationRequiredError
from mcp.types import ElicitResult

SIGN_IN = Path(__file__).parent.parent / "sign-in"
ADA = "ada@contoso.example"


async def sign_in(link: str) -> None:
    """A person who opens the link and signs in as Ada."""
    person = await asyncio.create_subprocess_exec(SIGN_IN, link)
    assert await person.wait() == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


async def program(token_file: Path) -> StdioServerParameters:
    """The program with the settings of the demo's server, and a token file of its own."""
    async with Client(os.environ["MCP_URL"]) as demo:
        info = (await demo.call_tool("get_server_info")).structured_content
    (scope,) = (scope for scope in info["scopes"].split() if "://" in scope)
    env = {
        "AZURE_CLIENT_ID": info["client_id"],
        "AZURE_TENANT_ID": info["tenant"],
        "AZURE_AUTHORITY_HOST": info["authority"],
        "BACKEND_API_BASE_URL": info["backend_base_url"],
        "CUSTOM_API_SCOPE": scope,
        "TOKEN_CACHE_FILE": str(token_file),
        "SERVER_PORT": str(free_port()),
        "LOG_LEVEL": "warn",
    }
    return StdioServerParameters(command=os.environ["RELEASE_BINARY"], args=["stdio"], env=env)


async def ok(client: Client, name: str, **arguments) -> dict:
    answer = (await client.call_tool(name, arguments)).structured_content
    assert answer["success"], answer
    return answer


async def me(client: Client) -> str:
    return (await ok(client, "api_get_request", endpoint="/me"))["data"]["userPrincipalName"]


async def lost(client: Client, server_pid) -> None:
    """Waits in a call for a sign-in that nobody begins, and ends the server meanwhile."""
    await ok(client, "authenticate_user", user_id="nobody")
    under_way = asyncio.Event()

    async def progress_callback(progress, total, message):
        under_way.set()

    arguments = {"user_id": "nobody", "wait_seconds": 60}
    call = client.call_tool("check_auth_status", arguments, progress_callback=progress_callback)
    waiting = asyncio.create_task(call)
    await under_way.wait()
    pid = server_pid()
    os.kill(pid, signal.SIGKILL)
    try:
        raise AssertionError(await waiting)
    except MCPError as error:
        assert re.search("is not known", str(error)), error
    await end(pid)


async def end(pid: int) -> None:
    """Waits until the process has ended and was reaped. What it had open is closed then."""
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            await asyncio.sleep(0.01)


async def signed_in_when_asked(parameters: StdioServerParameters, mode: str) -> None:
    """A call that needs a sign-in, by a client that opens URLs."""

    async def elicitation_callback(context, params):
        await sign_in(params.url)
        return ElicitResult(action="accept")

    async with Client(parameters, mode=mode, elicitation_callback=elicitation_callback) as client:
        await ok(client, "logout_user", user_id=ADA)
        try:
            assert await me(client) == ADA
        except MCPError as error:
            (elicitation,) = UrlElicitationRequiredError.from_error(error.error).elicitations
            await sign_in(elicitation.url)
            assert await me(client) == ADA


async def main() -> None:
    for mode, revision in [("legacy", "2025-11-25"), ("auto", "2026-07-28")]:
        with tempfile.TemporaryDirectory() as directory:
            token_file = Path(directory) / "tokens.json"
            parameters = await program(token_file)

            def server_pid() -> int:
                return json.loads(Path(f"{token_file}.owner").read_text())["pid"]

            async with Client(parameters, mode=mode) as first:
                assert first.protocol_version == revision, first.protocol_version
                await ok(first, "ping")
                killed = server_pid()
                async with Client(parameters, mode=mode) as second:
                    begun = await ok(second, "authenticate_user", user_id=ADA)
                    await sign_in(begun["sign_in_url"])
                    assert [await me(first), await me(second)] == [ADA, ADA]
                    assert server_pid() == killed
                    await lost(second, server_pid)
                    assert await me(second) == ADA
                    assert server_pid() != killed
                    await signed_in_when_asked(parameters, mode)
        print(f"  Python mcp, stdio, {mode}: two at a time, one of them killed, and signing in, in revision {revision}")


asyncio.run(main())
