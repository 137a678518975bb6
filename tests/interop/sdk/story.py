"""The main job with the official Python SDK, in both of its eras. Runs under with-demo."""

import asyncio
import base64

from elicitation import ADA, URL, repeated_by_the_program, repeated_by_the_sdk, sign_in
from mcp import Client

TOOLS = {
    "api_delete_request", "api_get_request", "api_patch_request", "api_post_request", "api_put_request",
    "authenticate_user", "check_auth_status", "get_server_info", "logout_user", "ping", "view_userid",
    # Those of the demo's description.
    "changeTask", "createTask", "deleteTask", "getMe", "getReport", "getTask", "listMessages", "listTasks",
}


async def story(client: Client) -> None:
    async def call(name, /, **arguments):
        result = await client.call_tool(name, arguments)
        answer = result.structured_content
        assert answer["success"] is not bool(result.is_error), answer
        return answer, result.content

    async def ok(name, /, **arguments):
        answer, _ = await call(name, **arguments)
        assert answer["success"], answer
        return answer

    async def fails(name, /, **arguments):
        answer, _ = await call(name, **arguments)
        assert not answer["success"], answer
        return answer

    listed = await client.list_tools()
    assert {tool.name for tool in listed.tools} == TOOLS
    assert "sign" in client.instructions.lower()
    await ok("ping")

    # Nobody is signed in: the call gives the link.
    refused = await fails("api_get_request", endpoint="/me")
    assert refused["error"] == "sign_in_required", refused
    assert refused["sign_in_url"].startswith(URL.removesuffix("/mcp")), refused

    # The tool waits while the person signs in.
    begun = await ok("authenticate_user", user_id=ADA)
    waiting = asyncio.create_task(ok("check_auth_status", user_id=ADA, wait_seconds=60))
    await sign_in(begun["sign_in_url"])
    status = await waiting
    assert (status["authenticated"], status["can_refresh"], status["username"]) == (True, True, ADA), status
    assert (await ok("view_userid"))["user_id"] == ADA

    # Reading, a page at a time.
    assert (await ok("api_get_request", endpoint="/me"))["data"]["userPrincipalName"] == ADA
    page = await ok("api_get_request", endpoint="/me/messages", params={"$top": 20})
    rest = await ok("api_get_request", endpoint=page["data"]["@odata.nextLink"])
    assert (len(page["data"]["value"]), len(rest["data"]["value"])) == (20, 5)

    # Creating, changing, deleting.
    created = await ok("api_post_request", endpoint="/tasks", data={"title": "Write"})
    assert created["status"] == 201, created
    task = {"endpoint": f"/tasks/{created['data']['id']}"}
    headers = {"If-Match": created["headers"]["etag"]}
    changed = await ok("api_patch_request", **task, data={"done": True}, headers=headers)
    assert changed["data"] == created["data"] | {"done": True}, changed
    late = await fails("api_patch_request", **task, data={"done": False}, headers=headers)
    assert late["status"] == 412, late
    replaced = await ok("api_put_request", **task, data={"title": "Read"})
    assert replaced["data"]["title"] == "Read", replaced
    assert (await ok("api_get_request", **task))["data"] == replaced["data"]
    assert (await ok("api_delete_request", **task))["status"] == 204
    assert (await fails("api_get_request", **task))["status"] == 404

    # An image is an image.
    _, content = await call("api_get_request", endpoint="/photo")
    (photo,) = (part for part in content if part.type == "image")
    assert photo.mime_type == "image/png", photo
    assert base64.b64decode(photo.data)[1:4] == b"PNG"

    # The token goes nowhere else, and signing out forgets it.
    away = await fails("api_get_request", endpoint="https://evil.example/v1.0/me")
    assert away["error"] == "invalid_request", away
    assert (await ok("logout_user"))["logout_url"].endswith("/oauth2/v2.0/logout")
    assert (await fails("api_get_request", endpoint="/me"))["error"] == "sign_in_required"


async def main() -> None:
    for mode, revision, elicitation in [
        ("legacy", "2025-11-25", repeated_by_the_program),
        ("auto", "2026-07-28", repeated_by_the_sdk),
    ]:
        async with Client(URL, mode=mode) as client:
            assert client.protocol_version == revision, client.protocol_version
            await story(client)
        await elicitation(mode)
        print(f"  Python mcp, {mode}: the whole story, and signing in by elicitation, in revision {revision}")


asyncio.run(main())
