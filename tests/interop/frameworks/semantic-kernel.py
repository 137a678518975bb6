"""Semantic Kernel: the functions of `MCPStreamableHttpPlugin`, as it gives them to a model of OpenAI's."""

import asyncio

from common import URL, Story
from semantic_kernel import Kernel
from semantic_kernel.connectors.ai.function_calling_utils import kernel_function_metadata_to_function_call_format
from semantic_kernel.connectors.mcp import MCPStreamableHttpPlugin


async def main():
    story = Story("Semantic Kernel")
    kernel = Kernel()
    async with MCPStreamableHttpPlugin(name="entra", url=URL, load_prompts=False) as plugin:
        functions = kernel.add_plugin(plugin).functions

        def shown(function):
            function = kernel_function_metadata_to_function_call_format(function.metadata)["function"]
            return function["description"], function["parameters"]

        async def call(name, arguments):
            answer = await functions[name].invoke(kernel, **arguments)
            return answer.value[0].text

        story.check_tools({name: shown(function) for name, function in functions.items()})
        await story.check_calls(call)
    story.end()


asyncio.run(main())
