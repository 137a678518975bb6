"""LlamaIndex: the function tools of `McpToolSpec`."""

import asyncio

from common import URL, Story
from llama_index.tools.mcp import BasicMCPClient, McpToolSpec


async def main():
    story = Story("LlamaIndex")
    tools = await McpToolSpec(client=BasicMCPClient(URL)).to_tool_list_async()
    tools = {tool.metadata.name: tool for tool in tools}

    def shown(tool):
        function = tool.metadata.to_openai_tool()["function"]
        return function["description"], function["parameters"]

    async def call(name, arguments):
        answer = await tools[name].acall(**arguments)
        return answer.raw_output.content[0].text

    story.check_tools({name: shown(tool) for name, tool in tools.items()})
    await story.check_calls(call)
    story.end()


asyncio.run(main())
