"""Pydantic AI: the tool definitions of `MCPToolset`, called as an agent's run calls them."""

import asyncio
import json

from common import URL, Story
from pydantic_ai import RunContext, RunUsage
from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.test import TestModel


async def main():
    story = Story("Pydantic AI")
    context = RunContext(deps=None, model=TestModel(), usage=RunUsage())
    async with MCPToolset(URL) as toolset:
        tools = await toolset.get_tools(context)

        async def call(name, arguments):
            tool = tools[name]
            try:
                arguments = tool.args_validator.validate_python(arguments)
                answer = await toolset.call_tool(name, arguments, context, tool)
            except ModelRetry as refused:
                return str(refused)
            return json.dumps(answer)

        definitions = {name: tool.tool_def for name, tool in tools.items()}
        story.check_tools({name: (d.description, d.parameters_json_schema) for name, d in definitions.items()})
        await story.check_calls(call)
    story.end()


asyncio.run(main())
