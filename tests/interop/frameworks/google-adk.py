"""Google ADK: the tools of `McpToolset`, as it declares them to Gemini."""

import asyncio

from common import URL, Story
from google.adk.tools.mcp_tool import McpToolset, StreamableHTTPConnectionParams


async def main():
    story = Story("Google ADK", unrelated_warning="Application Default Credentials")
    toolset = McpToolset(connection_params=StreamableHTTPConnectionParams(url=URL))
    tools = {tool.name: tool for tool in await toolset.get_tools()}

    def shown(tool):
        declaration = tool._get_declaration()
        schema = declaration.parameters_json_schema or declaration.parameters.model_dump(mode="json", exclude_none=True)
        return declaration.description, schema

    async def call(name, arguments):
        answer = await tools[name].run_async(args=arguments, tool_context=None)
        return answer["content"][0]["text"]

    story.check_tools({name: shown(tool) for name, tool in tools.items()})
    await story.check_calls(call)
    await toolset.close()
    story.end()


asyncio.run(main())
