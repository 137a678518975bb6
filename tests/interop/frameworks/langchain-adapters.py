"""LangChain MCP Adapters: the tools of `MultiServerMCPClient`, as LangChain gives them to a model of OpenAI's."""

import asyncio

from common import URL, Story
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_mcp_adapters.client import MultiServerMCPClient


async def main():
    story = Story("LangChain MCP adapters")
    client = MultiServerMCPClient({"entra": {"transport": "http", "url": URL}})
    tools = {tool.name: tool for tool in await client.get_tools()}

    def shown(tool):
        function = convert_to_openai_tool(tool)["function"]
        return function["description"], function["parameters"]

    async def call(name, arguments):
        (block,) = await tools[name].ainvoke(arguments)
        return block["text"]

    story.check_tools({name: shown(tool) for name, tool in tools.items()})
    await story.check_calls(call)
    story.end()


asyncio.run(main())
