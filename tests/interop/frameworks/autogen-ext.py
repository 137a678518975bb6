"""AutoGen: the tools of `McpWorkbench`, and those of `mcp_server_tools`.

A tool of the latter that fails shows the model nothing but "unhandled errors in a TaskGroup", whatever the server
says; so failing is left to the workbench.
"""

import asyncio
import json

from autogen_core import CancellationToken
from autogen_ext.tools.mcp import McpWorkbench, StreamableHttpServerParams, mcp_server_tools
from common import TASK, URL, Story


async def main():
    story = Story("AutoGen")
    parameters = StreamableHttpServerParams(url=URL)
    async with McpWorkbench(parameters) as workbench:
        schemas = await workbench.list_tools()

        async def call(name, arguments):
            answer = await workbench.call_tool(name, arguments)
            return answer.result[0].content

        story.check_tools({schema["name"]: (schema["description"], schema["parameters"]) for schema in schemas})
        await story.check_calls(call)
    tools = {tool.name: tool for tool in await mcp_server_tools(parameters)}
    story.check_tools({name: (tool.schema["description"], tool.schema["parameters"]) for name, tool in tools.items()})
    (text,) = await tools["api_post_request"].run_json({"endpoint": "/tasks", "data": TASK}, CancellationToken())
    created = json.loads(text.text)
    assert TASK.items() <= created["data"].items(), created
    story.end()


asyncio.run(main())
