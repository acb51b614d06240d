#!/usr/bin/env python3
"""Lab B stub model server: OpenAI chat completions + responses, Anthropic messages; stream or not.
usage: stub.py --port 0 --port-file F --log F.jsonl
Markers in the LAST user text: USE_TOOL (shell call), LINES=n (shell call of `seq 1 n`), WRITE_FILE, USE_SUBAGENT, SLOW (600 chunks, 0.1 s each),
THINK (reasoning first), TOOL=<name> (call that tool by name), FAIL (500)."""

import argparse, json, os, re, sys, threading, time, uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOG = None
LOCK = threading.Lock()


def log(o):
    if LOG:
        with LOCK:
            LOG.write(json.dumps(o, default=str) + "\n")
            LOG.flush()


def text_of(c):
    if isinstance(c, str):
        return c
    if isinstance(c, list):
        return "\n".join(text_of(p.get("text") or p.get("content") or "") if isinstance(p, dict) else str(p) for p in c)
    return ""


SHELL = [
    "bash",
    "Bash",
    "shell",
    "Shell",
    "run_shell_command",
    "execute_command",
    "run_commands",
    "run_terminal_cmd",
    "run_terminal_command",
    "Execute",
    "terminal",
    "execute_bash",
    "exec_command",
    "command",
    "run_command",
]
WRITE = [
    "write",
    "Write",
    "write_to_file",
    "write_file",
    "WriteFile",
    "Create",
    "create",
    "builtin_create_new_file",
    "file_editor",
    "create_new_file",
    "editor",
    "save",
]
SUB = ["task", "Task", "agent", "Agent", "new_task", "subagent", "dispatch_agent", "use_subagents", "Subagent"]


def fill(schema, name="", command="echo hello-from-tool"):
    t = schema.get("type") if isinstance(schema, dict) else "string"
    if isinstance(t, list):
        t = next((x for x in t if x != "null"), "string")
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return fill(next((s for s in schema["anyOf"] if s.get("type") != "null"), {}), name, command)
    if t == "object":
        return {k: fill(v, k, command) for k, v in schema.get("properties", {}).items() if k in schema.get("required", [])}
    if t == "array":
        return [fill(schema.get("items", {}), name, command)]
    if t in ("integer", "number"):
        return 10
    if t == "boolean":
        return False
    n = name.lower()
    if "command" in n or n == "cmd":
        return command
    if "path" in n or "file" in n:
        return os.environ.get("STUB_FILE", "stub_out.txt")
    if "agent" in n:
        return os.environ.get("STUB_AGENT", "general")
    if n in ("content", "text", "contents", "file_text"):
        return "line one\nline two\n"
    if "prompt" in n or "task" in n or "message" in n:
        return "Subtask: say hi and stop."
    if "risk" in n:
        return "low"
    return "stub " + name


def pick(tools, last):
    """tools: list of (name, schema). returns (name,args) or None"""
    names = dict(tools)
    m = re.search(r"TOOL=([\w.:-]+)(\{.*\})?", last)
    if m and m.group(1) in names:
        args = json.loads(m.group(2)) if m.group(2) else fill({**names[m.group(1)], "type": "object"})
        return m.group(1), args
    lines = re.search(r"LINES=(\d+)", last)
    command = f"seq 1 {lines[1]}" if lines else "echo hello-from-tool"
    for mark, lst in (("USE_TOOL", SHELL), ("LINES=", SHELL), ("WRITE_FILE", WRITE), ("USE_SUBAGENT", SUB)):
        if mark in last:
            for n in lst:
                if n in names:
                    return n, fill({**names[n], "type": "object"}, command=command)
            for n in names:
                if any(l.lower() in n.lower() for l in lst):
                    return n, fill({**names[n], "type": "object"}, command=command)
    return None


class H(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def j(self, o, code=200):
        b = json.dumps(o).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(b)))
        self.end_headers()
        self.wfile.write(b)

    def sse_start(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("cache-control", "no-cache")
        self.end_headers()

    def raw(self, s):
        b = s.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(b), b))
        self.wfile.flush()

    def ev(self, o, name=None):
        self.raw(
            (f"event: {name}\n" if name else "") + "data: " + (o if isinstance(o, str) else json.dumps(o)) + "\n\n"
        )

    def end(self):
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_GET(self):
        log({"t": time.time(), "m": "GET", "path": self.path})
        if self.path.rstrip("/").endswith("models"):
            return self.j(
                {"object": "list", "data": [{"id": "stub-model", "object": "model", "created": 1, "owned_by": "stub"}]}
            )
        self.j({})

    def do_POST(self):
        n = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(n) if n else b""
        if (self.headers.get("transfer-encoding") or "").lower() == "chunked":
            raw = b""
            while True:
                ln = int(self.rfile.readline().strip() or b"0", 16)
                if ln == 0:
                    self.rfile.readline()
                    break
                raw += self.rfile.read(ln)
                self.rfile.readline()
        try:
            body = json.loads(raw or b"{}")
        except Exception:
            body = {"_raw": raw[:200].decode("latin1")}
        log(
            {
                "t": time.time(),
                "m": "POST",
                "path": self.path,
                "hdr": {k: v for k, v in self.headers.items() if k.lower() not in ("authorization", "x-api-key")},
                "body": body,
            }
        )
        p = self.path.split("?")[0]
        try:
            if p.endswith("/chat/completions"):
                return self.chat(body)
            if p.endswith("/responses"):
                return self.resp_api(body)
            if p.endswith("/messages"):
                return self.anthropic(body)
            if p.endswith("/count_tokens"):
                return self.j({"input_tokens": 10})
            return self.j({})
        except (BrokenPipeError, ConnectionResetError):
            log({"t": time.time(), "gone": self.path})

    def plan(self, last, after_tool, tools):
        slow = "SLOW" in last
        tool = None if after_tool else pick(tools, last)
        think = "I think about it. " if "THINK" in last else None
        if tool:
            text = "Let me call a tool."
        elif after_tool:
            text = "The tool has answered; all done."
        else:
            text = "Hello from the stub model. You said: " + last.strip()[:80].replace("USE_TOOL", "use-tool").replace(
                "SLOW", "slow"
            )
        chunks = (
            ["slow word %d " % i for i in range(600)]
            if slow and not after_tool
            else [text[i : i + 12] for i in range(0, len(text), 12)]
        )
        return chunks, tool, think, (0.1 if slow and not after_tool else 0.005)

    # ---- OpenAI chat
    def chat(self, b):
        msgs = b.get("messages", [])
        hidden = ("<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>", "<system-reminder>")
        # A tool may put notes of its own behind the result of a call: it would be asked for the same call again.
        spoken = (m for m in msgs if m.get("role") not in ("system", "developer"))
        said = [m for m in spoken if not text_of(m.get("content")).lstrip().startswith(hidden)]
        last = next((text_of(m.get("content")) for m in reversed(said) if m.get("role") == "user"), "")
        after = bool(said) and said[-1].get("role") == "tool"
        if "FAIL" in last:
            return self.j({"error": {"message": "stub failure", "type": "server_error"}}, 500)
        tools = [
            (t["function"]["name"], t["function"].get("parameters") or {})
            for t in b.get("tools") or []
            if t.get("type") == "function"
        ]
        chunks, tool, think, d = self.plan(last, after, tools)
        cid = "chatcmpl-" + uuid.uuid4().hex[:12]
        base = {"id": cid, "created": int(time.time()), "model": b.get("model", "stub-model")}
        usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        tc = (
            [
                {
                    "index": 0,
                    "id": "call_" + uuid.uuid4().hex[:12],
                    "type": "function",
                    "function": {"name": tool[0], "arguments": json.dumps(tool[1])},
                }
            ]
            if tool
            else None
        )
        if not b.get("stream"):
            m = {"role": "assistant", "content": "".join(chunks)}
            if tc:
                m["tool_calls"] = [{k: v for k, v in tc[0].items() if k != "index"}]
            return self.j(
                {
                    **base,
                    "object": "chat.completion",
                    "choices": [{"index": 0, "message": m, "finish_reason": "tool_calls" if tc else "stop"}],
                    "usage": usage,
                }
            )
        self.sse_start()

        def c(delta, fr=None, **kw):
            self.ev(
                {
                    **base,
                    "object": "chat.completion.chunk",
                    "choices": [{"index": 0, "delta": delta, "finish_reason": fr}],
                    **kw,
                }
            )

        c({"role": "assistant", "content": ""})
        if think:
            c({"reasoning_content": think})
        for ch in chunks:
            c({"content": ch})
            time.sleep(d)
        if tc:
            c({"tool_calls": tc})
        c({}, "tool_calls" if tc else "stop", usage=usage)
        if (b.get("stream_options") or {}).get("include_usage"):
            self.ev({**base, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        self.ev("[DONE]")
        self.end()

    # ---- OpenAI responses
    def resp_api(self, b):
        inp = b.get("input", [])
        if isinstance(inp, str):
            inp = [{"role": "user", "content": inp}]
        last = next((text_of(m.get("content")) for m in reversed(inp) if m.get("role") == "user"), "")
        after = bool(inp) and inp[-1].get("type") == "function_call_output"
        tools = [(t["name"], t.get("parameters") or {}) for t in b.get("tools") or [] if t.get("type") == "function"]
        chunks, tool, think, d = self.plan(last, after, tools)
        rid = "resp_" + uuid.uuid4().hex[:16]
        mid = "msg_" + uuid.uuid4().hex[:16]
        usage = {
            "input_tokens": 100,
            "output_tokens": 20,
            "total_tokens": 120,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        R = {
            "id": rid,
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "model": b.get("model", "stub-model"),
            "output": [],
            "usage": None,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
        full = "".join(chunks)
        item = {
            "id": mid,
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": full, "annotations": []}],
        }
        out = [item]
        if tool:
            fc = {
                "id": "fc_" + uuid.uuid4().hex[:16],
                "type": "function_call",
                "call_id": "call_" + uuid.uuid4().hex[:12],
                "name": tool[0],
                "arguments": json.dumps(tool[1]),
                "status": "completed",
            }
            out.append(fc)
        done = {**R, "status": "completed", "output": out, "usage": usage}
        if not b.get("stream"):
            return self.j(done)
        self.sse_start()
        sn = [0]

        def e(t, **k):
            sn[0] += 1
            self.ev({"type": t, "sequence_number": sn[0], **k}, t)

        e("response.created", response=R)
        e("response.in_progress", response=R)
        e("response.output_item.added", output_index=0, item={**item, "status": "in_progress", "content": []})
        e(
            "response.content_part.added",
            item_id=mid,
            output_index=0,
            content_index=0,
            part={"type": "output_text", "text": "", "annotations": []},
        )
        for ch in chunks:
            e("response.output_text.delta", item_id=mid, output_index=0, content_index=0, delta=ch)
            time.sleep(d)
        e("response.output_text.done", item_id=mid, output_index=0, content_index=0, text=full)
        e("response.content_part.done", item_id=mid, output_index=0, content_index=0, part=item["content"][0])
        e("response.output_item.done", output_index=0, item=item)
        if tool:
            e("response.output_item.added", output_index=1, item={**fc, "arguments": "", "status": "in_progress"})
            e("response.function_call_arguments.delta", item_id=fc["id"], output_index=1, delta=fc["arguments"])
            e("response.function_call_arguments.done", item_id=fc["id"], output_index=1, arguments=fc["arguments"])
            e("response.output_item.done", output_index=1, item=fc)
        e("response.completed", response=done)
        self.end()

    # ---- Anthropic messages
    def anthropic(self, b):
        msgs = b.get("messages", [])
        after = False
        last = ""
        for m in reversed(msgs):
            if m.get("role") != "user":
                continue
            c = m.get("content")
            if isinstance(c, list) and any(isinstance(x, dict) and x.get("type") == "tool_result" for x in c):
                after = after or m is msgs[-1]
                continue
            last = text_of(c)
            break
        tools = [(t["name"], t.get("input_schema") or {}) for t in b.get("tools") or [] if "name" in t]
        chunks, tool, think, d = self.plan(last, after, tools)
        mid = "msg_" + uuid.uuid4().hex[:20]
        u = {"input_tokens": 100, "output_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        content = [{"type": "text", "text": "".join(chunks)}]
        if tool:
            content.append(
                {"type": "tool_use", "id": "toolu_" + uuid.uuid4().hex[:20], "name": tool[0], "input": tool[1]}
            )
        M = {
            "id": mid,
            "type": "message",
            "role": "assistant",
            "model": b.get("model", "stub-model"),
            "content": content,
            "stop_reason": "tool_use" if tool else "end_turn",
            "stop_sequence": None,
            "usage": u,
        }
        if not b.get("stream"):
            return self.j(M)
        self.sse_start()

        def e(t, **k):
            self.ev({"type": t, **k}, t)

        e("message_start", message={**M, "content": [], "stop_reason": None, "usage": {**u, "output_tokens": 1}})
        i = 0
        if think and (b.get("thinking") or {}).get("type") == "enabled":
            e("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""})
            e("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": think})
            e("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "c3R1Yg=="})
            e("content_block_stop", index=0)
            i = 1
        e("content_block_start", index=i, content_block={"type": "text", "text": ""})
        for ch in chunks:
            e("content_block_delta", index=i, delta={"type": "text_delta", "text": ch})
            time.sleep(d)
        e("content_block_stop", index=i)
        if tool:
            i += 1
            t = content[-1]
            e("content_block_start", index=i, content_block={**t, "input": {}})
            e(
                "content_block_delta",
                index=i,
                delta={"type": "input_json_delta", "partial_json": json.dumps(t["input"])},
            )
            e("content_block_stop", index=i)
        e("message_delta", delta={"stop_reason": M["stop_reason"], "stop_sequence": None}, usage={"output_tokens": 20})
        e("message_stop")
        self.end()


class S(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def main():
    global LOG
    a = argparse.ArgumentParser()
    a.add_argument("--port", type=int, default=0)
    a.add_argument("--port-file")
    a.add_argument("--log")
    a.add_argument("--max-seconds", type=int, default=7200)
    o = a.parse_args()
    if o.log:
        LOG = open(o.log, "a")
    s = S(("127.0.0.1", o.port), H)
    port = s.server_address[1]
    if o.port_file:
        with open(o.port_file + ".tmp", "w") as f:
            f.write(str(port))
        os.rename(o.port_file + ".tmp", o.port_file)
    print(port, flush=True)
    threading.Timer(o.max_seconds, lambda: os._exit(0)).start()
    s.serve_forever()


if __name__ == "__main__":
    main()
