"""CrewAI: the tools of `MCPServerAdapter`, as it gives them to a model of OpenAI's."""

import asyncio
import os

from common import URL, Story

os.environ["CREWAI_DISABLE_TELEMETRY"] = "true"
from crewai_tools import MCPServerAdapter  # noqa: E402


async def main():
    story = Story("CrewAI")
    with MCPServerAdapter({"url": URL, "transport": "streamable-http"}) as tools:
        tools = {tool.name: tool for tool in tools}

        def shown(tool):
            return tool.description, tool.args_schema.model_json_schema()

        async def call(name, arguments):
            return tools[name].run(**arguments)

        story.check_tools({name: shown(tool) for name, tool in tools.items()})
        await story.check_calls(call)
    story.end()


asyncio.run(main())
