"""What every framework must do with the server: show each tool as the server lists it, and call it. Each framework
has a file of its own that says how. Runs under with-demo."""

import json
import logging
import os
import subprocess
import urllib.request
from pathlib import Path

URL = os.environ["MCP_URL"]
SIGN_IN_URL = os.environ["SIGN_IN_URL"]
SIGN_IN = Path(__file__).parent.parent / "sign-in"
ADA = "ada@contoso.example"
VERSION = "2026-07-28"
TASK = {"title": "Write", "tags": ["a", {"b": None}], "effort": 1.5, "urgent": False}


class Warnings(logging.Handler):
    """What the framework warns of, by logging or by `warnings`, once its own modules are loaded."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []
        logging.captureWarnings(True)
        logging.getLogger().addHandler(self)

    def emit(self, record):
        self.messages.append(f"{record.name}: {record.getMessage()}")


def request(method: str, name: str | None = None, **params) -> dict:
    """What the server answers to a client without any library."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": method,
    }
    if name:
        headers["Mcp-Name"] = name
        params["name"] = name
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": meta}}
    sent = urllib.request.Request(URL, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(sent, timeout=20) as answer:
        return json.load(answer)["result"]


def resolved(schema: dict, root: dict) -> dict:
    """`schema`, or what its reference points at."""
    while "$ref" in schema:
        target = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        schema = target | {key: value for key, value in schema.items() if key != "$ref"}
    return schema


def kinds(schema: dict, root: dict) -> set[str]:
    """The types that a value may have; everything, where the schema does not say."""
    schema = resolved(schema, root)
    if "anyOf" in schema:
        return set().union(*(kinds(branch, root) for branch in schema["anyOf"]))
    if "type" not in schema:
        return {"object", "array", "string", "number", "boolean"}
    kind = schema["type"]
    return {text.lower() for text in (kind if isinstance(kind, list) else [kind])}


def choices(schema: dict, root: dict) -> set[str]:
    """The values of an enum, within `anyOf`, too."""
    schema = resolved(schema, root)
    found = set(schema.get("enum", [])) - {None}
    return found.union(*(choices(branch, root) for branch in schema.get("anyOf", [])))


def losses(listed: dict, description: str, schema: dict) -> list[str]:
    """What the framework does not show of a tool that is `listed`."""
    name = listed["name"]
    lost = []
    if listed["description"] not in description:
        lost.append(f"{name}: the description is {description!r}")
    arguments = listed["inputSchema"]["properties"]
    shown = schema.get("properties", {})
    if arguments.keys() != shown.keys():
        lost.append(f"{name}: the arguments are {shown.keys()}")
    for argument in arguments.keys() & shown.keys():
        at = f"{name}.{argument}"
        theirs, ours = resolved(shown[argument], schema), arguments[argument]
        if theirs.get("description") != ours.get("description"):
            lost.append(f"{at}: the description is {theirs.get('description')!r}")
        # Frameworks add null to what is optional.
        if kinds(theirs, schema) - {"null"} != kinds(ours, {}):
            lost.append(f"{at}: the types are {kinds(theirs, schema)}")
        if choices(theirs, schema) != choices(ours, {}):
            lost.append(f"{at}: the choices are {choices(theirs, schema)}")
    return lost


class Story:
    """The story of one framework, told in steps by its file."""

    def __init__(self, framework: str, *, requires_everything: bool = False, unrelated_warning: str | None = None):
        """`requires_everything`: the framework makes every argument a required one. `unrelated_warning`: a part of a
        warning that says nothing of tools."""
        self.framework = framework
        self.requires_everything = requires_everything
        self.unrelated_warning = unrelated_warning
        self.listed = {tool["name"]: tool for tool in request("tools/list")["tools"]}
        self.warnings = Warnings()
        self.nulls = {}
        signed_in = request("tools/call", "view_userid", arguments={})["structuredContent"]["user_ids"]
        for user_id in signed_in:
            request("tools/call", "logout_user", arguments={"user_id": user_id})

    def check_tools(self, shown: dict[str, tuple[str, dict]]) -> None:
        """`shown` has, for each tool by name, the description and the schema that a model is given."""
        assert shown.keys() == self.listed.keys(), shown.keys()
        lost = []
        for name, (description, schema) in shown.items():
            tool = self.listed[name]
            lost += losses(tool, description, schema)
            required = tool["inputSchema"].get("required", [])
            if self.requires_everything:
                required = tool["inputSchema"]["properties"]
            if set(required) != set(schema.get("required", [])):
                lost.append(f"{name}: {schema.get('required')} are required")
        assert not lost, "\n".join(lost)
        _, schema = shown["api_get_request"]
        self.nulls = {name: None for name, of in schema["properties"].items() if "null" in kinds(of, schema)}

    async def check_calls(self, call) -> None:
        """`await call(name, arguments)` gives the text of the result that a model reads, failed or not."""

        async def answer(name, **arguments):
            text = await call(name, arguments)
            try:
                return json.loads(text)
            except ValueError:
                raise AssertionError(text) from None

        refused = await call("api_get_request", {"endpoint": "/me"})
        assert "/auth/login" in refused, refused
        subprocess.run([SIGN_IN, SIGN_IN_URL], check=True)
        for user_id in [ADA, ""]:
            status = await answer("check_auth_status", user_id=user_id, wait_seconds=0)
            assert status["authenticated"], status

        # With what is required alone, and with null for what may be null.
        for nulls in [{}, self.nulls]:
            me = await answer("api_get_request", **nulls | {"endpoint": "/me"})
            assert me["data"]["userPrincipalName"] == ADA, me
        page = await answer(
            "api_get_request",
            endpoint="/me/messages",
            user_id=ADA,
            params={"$top": 2, "$select": ["id", "subject"]},
            headers={"Accept": "application/json"},
            select=["/value/0/subject", "/value/1/subject"],
        )
        assert page["success"] and len(page["data"]) == 2, page
        created = await answer("api_post_request", endpoint="/tasks", data=TASK)
        assert created["status"] == 201, created
        assert TASK.items() <= created["data"].items(), created

    def end(self) -> None:
        warnings = self.warnings.messages
        if self.unrelated_warning:
            warnings = [warning for warning in warnings if self.unrelated_warning not in warning]
        assert not warnings, "\n".join(warnings)
        print(f"  {self.framework}: {len(self.listed)} tools as listed; refused, signed in, read and written")
