"""A call that needs a sign-in, by clients that open URLs for their user: the client is asked to, the person
signs in, and the same call goes through."""

import asyncio
import os
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from mcp import Client, MCPError, UrlElicitationRequiredError
from mcp.types import CallToolResult, ElicitResult

URL = os.environ["MCP_URL"]
SIGN_IN = Path(__file__).parent.parent / "sign-in"
ADA = "ada@contoso.example"
ME = ("api_get_request", {"endpoint": "/me"})
# Each needs a sign-in of its own: the first any, the second one with a claim that the API demands, the
# third one with a further permission.
CALLS = [("/me", "userPrincipalName", ADA), ("/cae", "cae", True)]


async def sign_in(link: str) -> None:
    """A person who opens the link and signs in as Ada."""
    person = await asyncio.create_subprocess_exec(SIGN_IN, link)
    assert await person.wait() == 0


async def sign_out(client: Client) -> None:
    signed_in = await client.call_tool("view_userid")
    for user_id in signed_in.structured_content["user_ids"]:
        await client.call_tool("logout_user", {"user_id": user_id})


def check_invitation(params) -> None:
    assert params.mode == "url", params
    assert "Sign in with Microsoft Entra ID" in params.message, params
    assert params.url.startswith(URL.removesuffix("/mcp")), params


async def sign_in_when_it_waits(links: list[str], call) -> CallToolResult:
    """Lets `call` wait for a sign-in with the last of the links, which begins at its first progress
    notification."""
    person = []

    async def progress_callback(progress, total, message):
        assert message == "Waiting for the user to sign in", message
        if not person:
            person.append(asyncio.create_task(sign_in(links[-1])))

    answer = await call(progress_callback=progress_callback)
    await person[0]
    return answer


async def repeated_by_the_program(mode: str) -> None:
    """Revision 2025-11-25: the error UrlElicitationRequired. The SDK hands it to the program, which opens
    the link and repeats the call."""

    async def never_asked(context, params):
        raise AssertionError(params)

    async def elicited(name, arguments):
        try:
            answer = await client.call_tool(name, arguments)
        except MCPError as error:
            (elicitation,) = UrlElicitationRequiredError.from_error(error.error).elicitations
            check_invitation(elicitation)
            return elicitation.url
        raise AssertionError(answer)

    # Who gives a callback declares both modes, form and URL.
    async with Client(URL, mode=mode, elicitation_callback=never_asked) as client:
        await sign_out(client)
        for endpoint, member, value in CALLS:
            await sign_in(await elicited("api_get_request", {"endpoint": endpoint}))
            answer = await client.call_tool("api_get_request", {"endpoint": endpoint})
            assert answer.structured_content["data"][member] == value, answer

        # A program that wants to know when the person has finished waits in check_auth_status.
        await sign_out(client)
        link = await elicited(*ME)
        waiting = partial(client.call_tool, "check_auth_status", {"wait_seconds": 60})
        waited = await sign_in_when_it_waits([link], waiting)
        assert waited.structured_content["authenticated"], waited
        answer = await client.call_tool(*ME)
        assert answer.structured_content["data"]["userPrincipalName"] == ADA, answer
        await sign_out(client)


async def repeated_by_the_sdk(mode: str) -> None:
    """Revision 2026-07-28: a result with `input_required`. The SDK asks the program's callback, and repeats
    the call with its answer and the state by itself."""
    asked = []

    @asynccontextmanager
    async def answering(answer):
        async def callback(context, params):
            check_invitation(params)
            asked.append(params.url)
            return ElicitResult(action=await answer(params.url))

        asked.clear()
        async with Client(URL, mode=mode, elicitation_callback=callback) as client:
            await sign_out(client)
            yield client
            await sign_out(client)

    async def accept_after_signing_in(link):
        await sign_in(link)
        return "accept"

    async with answering(accept_after_signing_in) as client:
        for endpoint, member, value in CALLS:
            answer = await client.call_tool("api_get_request", {"endpoint": endpoint})
            assert answer.structured_content["data"][member] == value, answer
        assert len(asked) == len(CALLS), asked

    for action, message in [("decline", "declined to sign in"), ("cancel", "not decided to sign in")]:
        async def give_up(link, action=action):
            return action

        async with answering(give_up) as client:
            answer = await client.call_tool(*ME)
            assert answer.is_error and answer.structured_content["error"] == "refused", answer
            assert message in answer.structured_content["message"], answer
            assert len(asked) == 1, asked

    # Whoever accepts has not finished: the call waits for them.
    async def accept(link):
        return "accept"

    async with answering(accept) as client:
        answer = await sign_in_when_it_waits(asked, partial(client.call_tool, *ME))
        assert answer.structured_content["data"]["userPrincipalName"] == ADA, answer
        assert len(asked) == 1, asked
