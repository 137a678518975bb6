"""FastMCP with an equivalent tool: `server.py PORT BACKEND`."""

import sys

import httpx
from fastmcp import FastMCP

port, backend = int(sys.argv[1]), sys.argv[2]
client = httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=128))
mcp = FastMCP("bench")


@mcp.tool
async def api_get_request(endpoint: str, headers: dict[str, str] | None = None) -> dict:
    """Gets a resource of the API."""
    url = backend + endpoint
    answer = await client.get(url, headers={"Authorization": "Bearer bench", **(headers or {})})
    return {"success": answer.is_success, "status": answer.status_code, "endpoint": url, "data": answer.json()}


mcp.run(
    transport="http",
    host="127.0.0.1",
    port=port,
    path="/mcp",
    stateless_http=True,
    json_response=True,
    show_banner=False,
    log_level="error",
    uvicorn_config={"access_log": False},
)
