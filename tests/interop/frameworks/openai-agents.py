"""OpenAI Agents SDK: the function tools that it makes of `MCPServerStreamableHttp`, as they are and made strict."""

import asyncio
import json

from agents import Agent, RunContextWrapper, set_tracing_disabled
from agents.mcp import MCPServerStreamableHttp, MCPUtil
from agents.tool_context import ToolContext
from common import URL, Story

set_tracing_disabled(True)


# The tools that take no free-form objects.
OWN = {"authenticate_user", "check_auth_status", "get_server_info", "logout_user", "ping", "view_userid"}


async def main():
    story = Story("OpenAI Agents SDK")
    async with MCPServerStreamableHttp({"url": URL}) as server:
        agent = Agent("Tester", mcp_servers=[server])
        context = RunContextWrapper(None)

        async def made(strict):
            tools = await MCPUtil.get_function_tools(server, strict, context, agent)
            return {tool.name: tool for tool in tools}

        tools = await made(strict=False)

        async def call(name, arguments):
            arguments = json.dumps(arguments)
            called = ToolContext(None, tool_name=name, tool_call_id="1", tool_arguments=arguments)
            answer = await tools[name].on_invoke_tool(called, arguments)
            return answer["text"]

        story.check_tools({name: (tool.description, tool.params_json_schema) for name, tool in tools.items()})
        await story.check_calls(call)

        # What takes any JSON cannot be made strict, and stays as it is.
        strict = await made(strict=True)
        for name, tool in strict.items():
            # An operation of the API may take anything, as its description says.
            if name in OWN or name.startswith("api_"):
                assert tool.strict_json_schema is (name in OWN), name
            if not tool.strict_json_schema:
                assert tool.params_json_schema == tools[name].params_json_schema, name
    story.end()


asyncio.run(main())
