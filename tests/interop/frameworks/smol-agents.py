"""smolagents: the tools of `MCPClient`, called as its `ToolCallingAgent` calls them.

The agent insists on every argument, and on a string where a schema has `anyOf`. So a model gives "" or {} for what it
does not need, and writes JSON into `data`.
"""

import asyncio
import json

from common import URL, Story
from smolagents import MCPClient
from smolagents.models import get_tool_json_schema
from smolagents.tools import validate_tool_arguments

EMPTY = {"string": "", "object": {}, "integer": 0}


def given(tool, arguments):
    """What a model gives that means `arguments`."""
    whole = {name: EMPTY[schema["type"]] for name, schema in tool.inputs.items()} | arguments
    for name, value in whole.items():
        if tool.inputs[name]["type"] == "string" and not isinstance(value, str):
            whole[name] = json.dumps(value)
    return whole


async def main():
    story = Story("smolagents", requires_everything=True)
    with MCPClient({"url": URL, "transport": "streamable-http"}, structured_output=False) as tools:
        tools = {tool.name: tool for tool in tools}

        def shown(tool):
            function = get_tool_json_schema(tool)["function"]
            return function["description"], function["parameters"]

        async def call(name, arguments):
            arguments = given(tools[name], arguments)
            validate_tool_arguments(tools[name], arguments)
            return tools[name](**arguments)

        story.check_tools({name: shown(tool) for name, tool in tools.items()})
        await story.check_calls(call)
    story.end()


asyncio.run(main())
