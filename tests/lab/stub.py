#!/usr/bin/env python3
"""Stub model server: Anthropic Messages, OpenAI Chat Completions + Responses, Gemini, Ollama. Stdlib only.

  python3 stub.py PORT [--log FILE.jsonl] [--bodies DIR] [--portfile FILE] [--delay SECONDS]

PORT 0 picks a free port (printed as 'PORT n' and written to --portfile).  Binds 127.0.0.1 only.
Behaviour is chosen by markers in the LAST user text of a request:
  (none)        -> deterministic text "Stub answer (MODEL): <first 60 chars of prompt>"
  USE_TOOL      -> first a call of the tool's own shell tool with `echo hi`; after the tool result a final text
  READ_FILE     -> the same with a read-file tool (README.md, absolute path from $STUB_CWD if set)
  WRITE_FILE    -> the same with a write-file tool (stub_out.txt)
  USE_SUBAGENT  -> the same with the tool's agent/task/subagent tool (the subagent's prompt is "say hello from subagent")
  TWO_TOOLS     -> two shell calls in one assistant turn
  THINK         -> reasoning/thinking before the text where the protocol has it
  SLOW          -> streamed in 60 pieces, 0.5 s apart (to kill a tool mid-stream)
  LINES=n       -> a call of the shell tool with `seq 1 n`
  BIG=n         -> an answer of n bytes
  WEIRD         -> answer with CRLF, U+2028, U+0085, emoji, NUL escape, quotes, backslashes, RTL, combining
  ERR500 / ERR429 / ERR400 / DROP -> HTTP error or a dropped connection (mid-stream for DROP)
Requests that ask for JSON by schema get the smallest instance of that schema.
CONNECT (if the tool is given https_proxy=this stub) is logged and refused: shows what the tool wants to phone.
"""

import sys, os, json, time, re, hashlib, threading, argparse, itertools
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ap = argparse.ArgumentParser()
ap.add_argument("port", type=int)
ap.add_argument("--log", default=os.environ.get("STUB_LOG"))
ap.add_argument("--bodies", default=os.environ.get("STUB_BODIES"))
ap.add_argument("--portfile")
ap.add_argument("--delay", type=float, default=0.0)
A = ap.parse_args()
CTR = itertools.count(1)
LOCK = threading.Lock()
HIDE = {"authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie"}


def log(**kw):
    kw = {"t": round(time.time(), 3), **kw}
    line = json.dumps(kw, ensure_ascii=False)
    with LOCK:
        if A.log:
            with open(A.log, "a") as f:
                f.write(line + "\n")
        else:
            print(line[:300], flush=True)


def hid(prefix, body, n=24):
    return prefix + hashlib.sha256(body + str(next(CTR)).encode()).hexdigest()[:n]


# ---------- schema helpers
def instance(s, name="", root=None, depth=0):
    root = root or s
    if not isinstance(s, dict) or depth > 8:
        return "stub"
    if "$ref" in s:
        cur = root
        for p in s["$ref"].lstrip("#/").split("/"):
            cur = cur.get(p, {}) if isinstance(cur, dict) else {}
        return instance(cur, name, root, depth + 1)
    if "const" in s:
        return s["const"]
    if s.get("enum"):
        for pref in ("user", "flash", "low", "complete", "general-purpose"):
            if pref in s["enum"]:
                return pref
        return s["enum"][0]
    for k in ("anyOf", "oneOf", "allOf"):
        if s.get(k):
            return instance(s[k][0], name, root, depth + 1)
    t = s.get("type")
    if isinstance(t, list):
        t = next((x for x in t if x != "null"), "string")
    t = (t or ("object" if "properties" in s else "string")).lower()
    if t == "object":
        props = s.get("properties") or {}
        req = s.get("required") or list(props)
        return {k: instance(props.get(k, {}), k, root, depth + 1) for k in req}
    if t == "array":
        n = s.get("minItems") or s.get("min_items") or 0
        return [instance(s.get("items", {}), name, root, depth + 1) for _ in range(int(n))]
    if t == "boolean":
        return False
    if t in ("integer", "number"):
        return max(1, int(s.get("minimum") or 1))
    return "Stub " + (name or "text")


SHELLISH = [
    r"^bash$",
    r"^shell$",
    r"^run_shell_command$",
    r"^exec_command$",
    r"^shell_command$",
    r"^local_shell$",
    r"^developer__shell$",
    r"^execute_command$",
    r"^run_terminal_cmd$",
    r"^run_terminal_command$",
    r"^run_commands?$",
    r"^execute$",
    r"^execute_bash$",
    r"(^|[_.])(bash|shell|terminal|exec)([_.]|$)",
]
READISH = [r"^read$", r"^read_file$", r"^view$", r"^readfile$", r"^fs_read$", r"^str_replace_based_edit_tool$", r"read"]
WRITEISH = [r"^write$", r"^write_file$", r"^create$", r"^write_to_file$", r"write(?!_stdin)"]
AGENTISH = [
    r"^task$",
    r"^agent$",
    r"^spawn_(?:sub)?agent$",
    r"^invoke_agent$",
    r"^delegate_to_agent$",
    r"^codebase_investigator$",
    r"agent",
    r"task",
    r"delegate",
]


def pick(tools, kind):
    pats = {"shell": SHELLISH, "read": READISH, "write": WRITEISH, "agent": AGENTISH}[kind]
    for p in pats:
        for t in tools:
            if re.search(p, t["name"], re.I):
                return t
    return None


def args_for(tool, kind, cmd="echo hi"):
    s = tool.get("schema") or {}
    props = s.get("properties") or {}
    out = {}
    for k in s.get("required") or []:
        out[k] = instance(props.get(k, {}), k, s)
    cwd = os.environ.get("STUB_CWD", "")
    fp = os.path.join(cwd, "README.md") if cwd else "README.md"
    for k, v in props.items():
        lk = k.lower()
        t = v.get("type") if isinstance(v, dict) else None
        if kind == "shell":
            if lk in ("command", "cmd", "script", "code", "commands", "cli"):
                several = [cmd] if lk == "commands" else ["bash", "-lc", cmd]
                out[k] = several if (str(t).lower() == "array") else cmd
            elif lk == "requires_approval":
                out[k] = False if str(t).lower() == "boolean" else "false"
        elif kind in ("read", "write"):
            if lk in ("file_path", "filepath", "path", "absolute_path", "filename", "target_file"):
                out[k] = fp if kind == "read" else os.path.join(cwd, "stub_out.txt")
            elif kind == "write" and lk in ("content", "contents", "file_text", "text"):
                out[k] = "written by stub\n"
            elif lk == "command" and v.get("enum") and "view" in v["enum"]:
                out[k] = "view" if kind == "read" else "create"
        elif kind == "agent":
            if lk in ("prompt", "objective", "query", "message", "task", "instructions"):
                if str(t).lower() == "string":
                    out[k] = "say hello from subagent"
            elif lk in ("subagent_type", "agent_type", "agent_name", "agent"):
                out[k] = os.environ.get("STUB_AGENT") or (v.get("enum") or ["general-purpose"])[0]
            elif lk in ("await", "background"):  # otherwise the tool may end before its subagent does
                out[k] = lk == "await"
    if kind == "agent" and "description" in props:
        out["description"] = "stub subagent"
    if kind == "shell" and not out:
        out = {"command": cmd}
    return out


WEIRD = 'weird: "q" \\b \r\n CR LF, nel\u0085 ls\u2028 ps\u2029 emoji \U0001f600 fam \U0001f468\u200d\U0001f469\u200d\U0001f467 rtl \u0645\u0631\u062d\u0628\u0627 comb e\u0301 nul \u0000 esc \u001b[31m bom \ufeff end'


def decide(prompt, has_result, tools, model, body):
    """-> dict(text=, calls=[(name,args)], think=, delay=, pieces=, err=)"""
    d = {"text": None, "calls": [], "think": None, "delay": A.delay, "pieces": 4, "err": None, "drop": False}
    p = prompt or ""
    for e in ("ERR500", "ERR429", "ERR400"):
        if e in p and not has_result:
            d["err"] = int(e[3:])
    if "DROP" in p:
        d["drop"] = True
    if "SLOW" in p:
        d["delay"], d["pieces"] = 0.5, 60
    if "THINK" in p:
        d["think"] = "Stub thinking about the question."
    if not has_result and tools:
        kind = (
            "shell"
            if ("USE_TOOL" in p or "TWO_TOOLS" in p or "LINES=" in p)
            else "read"
            if "READ_FILE" in p
            else "write"
            if "WRITE_FILE" in p
            else "agent"
            if "USE_SUBAGENT" in p
            else None
        )
        if kind:
            t, cmd = pick(tools, kind), "echo hi"
            if t is None and kind == "write":
                t, kind, cmd = pick(tools, "shell"), "shell", "echo written by stub > stub_out.txt"
            if t:
                m = re.search(r"LINES=(\d+)", p)
                d["calls"].append((t, args_for(t, kind, f"seq 1 {m[1]}" if m else cmd)))
                if "TWO_TOOLS" in p:
                    d["calls"].append((t, args_for(t, kind, "echo second; ls")))
                d["text"] = "Let me run a tool."
                return d
    m = re.search(r"BIG=(\d+)", p)
    short = re.sub(r"\s+", " ", p).strip()[-60:]
    if m:
        n, i, out = int(m.group(1)), 0, []
        while i * 65 < n:  # not repetitive: some tools have loop detectors
            out.append(hashlib.sha256(str(i).encode()).hexdigest())
            i += 1
        d["text"] = " ".join(out)[:n]
        d["pieces"] = 16
    elif "WEIRD" in p:
        d["text"] = WEIRD
    else:
        d["text"] = f"Stub {'final answer after tool' if has_result else 'answer'} ({model}): {short}"
        if "SLOW" in p:
            d["text"] += " " + " ".join(f"word{i}" for i in range(200))
    return d


def split(text, n):
    n = max(1, min(n, len(text) or 1))
    k = -(-len(text) // n) or 1
    return [text[i : i + k] for i in range(0, len(text), k)] or [""]


def flat(c):
    if isinstance(c, str):
        return c
    if isinstance(c, list):
        out = []
        for b in c:
            if isinstance(b, str):
                out.append(b)
            elif isinstance(b, dict) and isinstance(b.get("text"), str):
                out.append(b["text"])
        return "\n".join(out)
    return ""


class H(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "stub"

    def log_message(self, *a):
        pass

    # --- io
    def body_in(self):
        if "chunked" in (self.headers.get("transfer-encoding") or "").lower():
            out = b""
            while True:
                n = int(self.rfile.readline().split(b";")[0].strip() or b"0", 16)
                if n == 0:
                    while self.rfile.readline().strip():
                        pass
                    break
                out += self.rfile.read(n)
                self.rfile.readline()
        else:
            n = int(self.headers.get("content-length") or 0)
            out = self.rfile.read(n) if n else b""
        enc = (self.headers.get("content-encoding") or "").lower()
        if enc == "gzip":
            import gzip

            out = gzip.decompress(out)
        elif enc == "deflate":
            import zlib

            out = zlib.decompress(out)
        elif enc == "zstd":
            try:
                import zstandard

                out = zstandard.ZstdDecompressor().decompressobj().decompress(out)
            except Exception:
                pass
        return out

    def send_json(self, obj, code=200, extra=()):
        b = obj if isinstance(obj, bytes) else json.dumps(obj).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(b)))
        for k, v in extra:
            self.send_header(k, v)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b)

    def sse_start(self, ctype="text/event-stream", extra=()):
        self.send_response(200)
        self.send_header("content-type", ctype)
        self.send_header("cache-control", "no-cache")
        self.send_header("transfer-encoding", "chunked")
        for k, v in extra:
            self.send_header(k, v)
        self.end_headers()

    def chunk(self, b):
        if isinstance(b, str):
            b = b.encode()
        self.wfile.write(b"%x\r\n" % len(b) + b + b"\r\n")
        self.wfile.flush()

    def sse(self, data, event=None):
        s = (
            (f"event: {event}\n" if event else "")
            + "data: "
            + (data if isinstance(data, str) else json.dumps(data))
            + "\n\n"
        )
        self.chunk(s)

    def sse_end(self):
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    # --- verbs
    def do_CONNECT(self):
        log(m="CONNECT", path=self.path)
        self.send_response(403)
        self.send_header("content-length", "0")
        self.end_headers()
        self.close_connection = True

    def do_HEAD(self):
        self.route(b"")

    def do_GET(self):
        self.route(self.body_in())

    def do_POST(self):
        self.route(self.body_in())

    do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_POST

    def route(self, body):
        path = self.path.split("?")[0]
        n = next(CTR)
        try:
            js = json.loads(body) if body else {}
        except Exception:
            js = {}
        if not isinstance(js, dict):
            js = {}
        hdr = {k.lower(): ("***" if k.lower() in HIDE else v) for k, v in self.headers.items()}
        rec = dict(
            n=n,
            m=self.command,
            path=self.path,
            model=js.get("model"),
            stream=js.get("stream"),
            blen=len(body),
            ntools=len(js.get("tools") or []),
            headers=hdr,
        )
        if A.bodies and body:
            os.makedirs(A.bodies, exist_ok=True)
            with open(os.path.join(A.bodies, f"{n:05d}.json"), "wb") as f:
                f.write(body)
        self.rec = rec
        try:
            if re.search(r"/messages/count_tokens$", path):
                log(**rec, kind="count_tokens")
                return self.send_json({"input_tokens": len(body) // 4})
            if path.endswith("/messages") and self.command == "POST":
                return self.anthropic(js, body)
            if path.endswith("/chat/completions"):
                return self.chat(js, body)
            if path.endswith("/responses") and self.command == "POST":
                return self.oai_responses(js, body)
            if path.endswith("/responses/compact") and self.command == "POST":
                log(**rec, kind="responses.compact")
                return self.send_json(
                    {
                        "id": hid("resp_", body),
                        "object": "response.compaction",
                        "output": js.get("input", [])[-2:],
                        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
                    }
                )
            m = re.search(r"/models/([^/:]+):(\w+)$", path)
            if m and self.command == "POST":
                return self.gemini(js, body, m.group(1), m.group(2))
            if path in ("/api/chat", "/api/generate"):
                return self.ollama(js, body, path)
            if path.endswith("/embeddings") or path in ("/api/embed", "/api/embeddings"):
                log(**rec, kind="embeddings")
                inp = js.get("input") or [""]
                inp = inp if isinstance(inp, list) else [inp]
                return self.send_json(
                    {
                        "object": "list",
                        "data": [
                            {"object": "embedding", "index": i, "embedding": [0.1] * 8} for i, _ in enumerate(inp)
                        ],
                        "embeddings": [[0.1] * 8 for _ in inp],
                        "model": js.get("model"),
                        "usage": {"prompt_tokens": 1, "total_tokens": 1},
                    }
                )
            if path == "/api/tags":
                log(**rec, kind="ollama.tags")
                return self.send_json(
                    {"models": [{"name": "stub-model:latest", "model": "stub-model:latest", "size": 1, "details": {}}]}
                )
            if path in ("/api/show", "/api/version"):
                log(**rec, kind=path)
                return self.send_json(
                    {
                        "version": "0.12.0",
                        "capabilities": ["tools", "completion"],
                        "model_info": {"general.context_length": 200000},
                        "details": {"family": "stub"},
                        "template": "{{ .Tools }}",
                    }
                )
            if re.search(r"/models(/[^/]+)?$", path) and self.command in ("GET", "HEAD"):
                log(**rec, kind="models")
                ids = os.environ.get(
                    "STUB_MODELS", "stub-model,stub-model-2,gpt-5,gpt-5-codex,claude-sonnet-4-5,gemini-2.5-pro"
                ).split(",")
                return self.send_json(
                    {
                        "object": "list",
                        "has_more": False,
                        "data": [
                            {
                                "id": i,
                                "object": "model",
                                "type": "model",
                                "display_name": i,
                                "created": 1700000000,
                                "created_at": "2025-01-01T00:00:00Z",
                                "owned_by": "stub",
                            }
                            for i in ids
                        ],
                        "models": [],
                    }
                )
            log(**rec, kind="OTHER", body=body[:300].decode("utf8", "replace"))
            if path in ("/", "/health", "/healthz"):
                return self.send_json({"ok": True})
            return self.send_json(
                {"error": {"type": "not_found_error", "message": "stub: no such endpoint " + path}, "type": "error"},
                404,
            )
        except (BrokenPipeError, ConnectionResetError):
            log(n=n, kind="CLIENT_GONE", path=self.path)
            self.close_connection = True
        except Exception as e:  # pragma: no cover
            import traceback

            log(n=n, kind="STUB_ERROR", err=traceback.format_exc())
            try:
                self.send_json({"error": {"message": "stub error " + str(e)}}, 500)
            except Exception:
                pass

    def pre(self, d, kind, prompt):
        log(
            **self.rec,
            kind=kind,
            prompt=(prompt or "")[-120:],
            reply=(["CALL " + c[0]["name"] for c in d["calls"]] or (d["text"] or "")[:80]),
            err=d["err"],
        )
        if d["err"]:
            self.send_json(
                {
                    "type": "error",
                    "error": {
                        "type": "overloaded_error"
                        if d["err"] == 500
                        else "rate_limit_error"
                        if d["err"] == 429
                        else "invalid_request_error",
                        "code": d["err"],
                        "message": f"stub says {d['err']}",
                    },
                },
                d["err"],
            )
            return False
        return True

    def maybe_drop(self, d, i):
        if d["drop"] and i == 1:
            log(n=self.rec["n"], kind="DROPPED")
            self.wfile.flush()
            self.connection.shutdown(2)
            self.close_connection = True
            return True
        return False

    # --- Anthropic
    def anthropic(self, js, body):
        msgs = js.get("messages") or []
        last = next((m for m in reversed(msgs) if m.get("role") == "user"), {})
        c = last.get("content")
        has_result = isinstance(c, list) and any(isinstance(b, dict) and b.get("type") == "tool_result" for b in c)
        prompt = flat(c)
        if has_result:  # find the text that began this turn
            for m in reversed(msgs):
                cc = m.get("content")
                if m.get("role") == "user" and not (
                    isinstance(cc, list) and any(isinstance(b, dict) and b.get("type") == "tool_result" for b in cc)
                ):
                    prompt = flat(cc)
                    break
        # the marker must be in the user's own words, not in an injected reminder
        prompt = re.sub(r"<system-reminder>.*?</system-reminder>", "", prompt, flags=re.S)
        tools = [
            {"name": t.get("name", ""), "schema": t.get("input_schema")} for t in js.get("tools") or [] if t.get("name")
        ]
        model = js.get("model", "stub")
        d = decide(prompt, has_result, tools, model, body)
        fmt = (js.get("output_config") or {}).get("format") or js.get("output_format")
        if fmt and fmt.get("schema"):
            d["text"], d["calls"] = json.dumps(instance(fmt["schema"])), []
        if not self.pre(d, "anthropic", prompt):
            return
        mid, rid = hid("msg_stub", body), hid("req_stub", body)
        usage = {
            "input_tokens": max(1, len(body) // 4),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 1,
            "service_tier": "standard",
        }
        blocks = []
        if d["think"]:
            blocks.append({"type": "thinking", "thinking": d["think"], "signature": "c3R1Yg=="})
        if d["text"]:
            blocks.append({"type": "text", "text": d["text"]})
        for t, a in d["calls"]:
            blocks.append({"type": "tool_use", "id": hid("toolu_stub", body), "name": t["name"], "input": a})
        stop = "tool_use" if d["calls"] else "end_turn"
        out_tok = max(1, len(d["text"] or "") // 4)
        extra = [("request-id", rid)]
        if not js.get("stream"):
            time.sleep(d["delay"])
            return self.send_json(
                {
                    "id": mid,
                    "type": "message",
                    "role": "assistant",
                    "model": model,
                    "content": blocks,
                    "stop_reason": stop,
                    "stop_sequence": None,
                    "usage": {**usage, "output_tokens": out_tok},
                },
                extra=extra,
            )
        self.sse_start(extra=extra)
        ev = lambda o: self.sse(o, o["type"])
        ev(
            {
                "type": "message_start",
                "message": {
                    "id": mid,
                    "type": "message",
                    "role": "assistant",
                    "model": model,
                    "content": [],
                    "stop_reason": None,
                    "stop_sequence": None,
                    "usage": usage,
                },
            }
        )
        ev({"type": "ping"})
        for i, b in enumerate(blocks):
            if b["type"] == "thinking":
                ev(
                    {
                        "type": "content_block_start",
                        "index": i,
                        "content_block": {"type": "thinking", "thinking": "", "signature": ""},
                    }
                )
                ev(
                    {
                        "type": "content_block_delta",
                        "index": i,
                        "delta": {"type": "thinking_delta", "thinking": b["thinking"]},
                    }
                )
                ev(
                    {
                        "type": "content_block_delta",
                        "index": i,
                        "delta": {"type": "signature_delta", "signature": b["signature"]},
                    }
                )
            elif b["type"] == "text":
                ev({"type": "content_block_start", "index": i, "content_block": {"type": "text", "text": ""}})
                for j, p in enumerate(split(b["text"], d["pieces"])):
                    ev({"type": "content_block_delta", "index": i, "delta": {"type": "text_delta", "text": p}})
                    if self.maybe_drop(d, j):
                        return
                    time.sleep(d["delay"])
            else:
                ev(
                    {
                        "type": "content_block_start",
                        "index": i,
                        "content_block": {"type": "tool_use", "id": b["id"], "name": b["name"], "input": {}},
                    }
                )
                for p in split(json.dumps(b["input"]), 2):
                    ev(
                        {
                            "type": "content_block_delta",
                            "index": i,
                            "delta": {"type": "input_json_delta", "partial_json": p},
                        }
                    )
            ev({"type": "content_block_stop", "index": i})
        ev(
            {
                "type": "message_delta",
                "delta": {"stop_reason": stop, "stop_sequence": None},
                "usage": {"output_tokens": out_tok},
            }
        )
        ev({"type": "message_stop"})
        self.sse_end()

    # --- OpenAI chat completions
    def chat(self, js, body):
        msgs = js.get("messages") or []
        reminder = "<system-reminder>"  # Kimi Code appends messages of its own after the user's
        said = [i for i, m in enumerate(msgs) if m.get("role") == "user"]
        own = [i for i in said if not flat(msgs[i].get("content")).lstrip().startswith(reminder)]
        idx = max(own or said, default=-1)
        prompt = flat(msgs[idx].get("content")) if idx >= 0 else ""
        has_result = any(m.get("role") in ("tool", "function") for m in msgs[idx + 1 :])
        if (
            not has_result
            and idx > 0
            and re.search(
                r"\[(execute_command|run|read_file)[^\]]*\] Result|<tool_result|<environment_details", prompt[:4000]
            )
            and "Result" in prompt[:4000]
        ):
            has_result = True
        prompt = re.sub(r"<(system-reminder|environment_details)>.*?</\1>", "", prompt, flags=re.S)
        tools = [
            {"name": t["function"].get("name", ""), "schema": t["function"].get("parameters")}
            for t in js.get("tools") or []
            if isinstance(t, dict) and t.get("function")
        ]
        tools += [{"name": f.get("name", ""), "schema": f.get("parameters")} for f in js.get("functions") or []]
        model = js.get("model", "stub")
        d = decide(prompt, has_result, tools, model, body)
        rf = js.get("response_format") or {}
        if rf.get("type") == "json_schema":
            d["text"], d["calls"] = json.dumps(instance((rf.get("json_schema") or {}).get("schema") or {})), []
        tc = js.get("tool_choice")
        if isinstance(tc, dict) and tc.get("function") and not d["calls"]:
            t = next((t for t in tools if t["name"] == tc["function"].get("name")), None)
            if t:
                d["calls"] = [(t, instance(t.get("schema") or {}))]
        if not self.pre(d, "chat", prompt):
            return
        cid = hid("chatcmpl-stub", body)
        calls = [
            {
                "id": hid("call_stub", body),
                "type": "function",
                "function": {"name": t["name"], "arguments": json.dumps(a)},
            }
            for t, a in d["calls"]
        ]
        pt, ct = max(1, len(body) // 4), max(1, len(d["text"] or "") // 4)
        usage = {"prompt_tokens": pt, "completion_tokens": ct, "total_tokens": pt + ct}
        fin = "tool_calls" if calls else "stop"
        now = int(time.time())
        if not js.get("stream"):
            time.sleep(d["delay"])
            msg = {"role": "assistant", "content": d["text"]}
            if calls:
                msg["tool_calls"] = calls
            if d["think"]:
                msg["reasoning_content"] = d["think"]
            return self.send_json(
                {
                    "id": cid,
                    "object": "chat.completion",
                    "created": now,
                    "model": model,
                    "choices": [{"index": 0, "message": msg, "finish_reason": fin, "logprobs": None}],
                    "usage": usage,
                }
            )
        self.sse_start()
        ch = lambda delta, f=None, **kw: self.sse(
            {
                "id": cid,
                "object": "chat.completion.chunk",
                "created": now,
                "model": model,
                "choices": [{"index": 0, "delta": delta, "finish_reason": f}],
                **kw,
            }
        )
        ch({"role": "assistant", "content": ""})
        if d["think"]:
            ch({"reasoning_content": d["think"]})
        for j, p in enumerate(split(d["text"] or "", d["pieces"])):
            ch({"content": p})
            if self.maybe_drop(d, j):
                return
            time.sleep(d["delay"])
        for i, c in enumerate(calls):
            ch(
                {
                    "tool_calls": [
                        {
                            "index": i,
                            "id": c["id"],
                            "type": "function",
                            "function": {"name": c["function"]["name"], "arguments": ""},
                        }
                    ]
                }
            )
            for p in split(c["function"]["arguments"], 2):
                ch({"tool_calls": [{"index": i, "function": {"arguments": p}}]})
        ch({}, fin)
        self.sse(
            {
                "id": cid,
                "object": "chat.completion.chunk",
                "created": now,
                "model": model,
                "choices": [],
                "usage": usage,
            }
        )
        self.sse("[DONE]")
        self.sse_end()

    # --- OpenAI responses
    def oai_responses(self, js, body):
        inp = js.get("input") or []
        if isinstance(inp, str):
            inp = [{"role": "user", "content": inp}]
        idx = max((i for i, m in enumerate(inp) if m.get("role") == "user"), default=-1)
        prompt = flat(inp[idx].get("content")) if idx >= 0 else ""
        has_result = any(str(m.get("type", "")).endswith("_output") for m in inp[idx + 1 :])
        tools = []
        for t in js.get("tools") or []:
            if t.get("type") == "function":
                tools.append({"name": t.get("name", ""), "schema": t.get("parameters")})
            elif t.get("type") == "namespace":
                for u in t.get("tools") or []:
                    tools.append({"name": u.get("name", ""), "schema": u.get("parameters"), "ns": t.get("name")})
            elif t.get("type") in ("custom", "local_shell"):
                tools.append({"name": t.get("name") or t["type"], "schema": {}, "custom": t["type"]})
        model = js.get("model", "stub")
        d = decide(prompt, has_result, tools, model, body)
        fmt = (js.get("text") or {}).get("format") or {}
        if fmt.get("type") == "json_schema":
            d["text"], d["calls"] = json.dumps(instance(fmt.get("schema") or {})), []
        if not self.pre(d, "responses", prompt):
            return
        rid = hid("resp_stub", body)
        items = []
        if d["think"]:
            items.append(
                {
                    "type": "reasoning",
                    "id": hid("rs_stub", body),
                    "summary": [{"type": "summary_text", "text": d["think"]}],
                    "encrypted_content": None,
                }
            )
        if d["text"] and not d["calls"]:
            items.append(
                {
                    "type": "message",
                    "id": hid("msg_stub", body),
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": d["text"], "annotations": []}],
                }
            )
        for t, a in d["calls"]:
            if t.get("custom") == "local_shell":
                items.append(
                    {
                        "type": "local_shell_call",
                        "id": hid("lsh_", body),
                        "call_id": hid("call_stub", body),
                        "status": "completed",
                        "action": {"type": "exec", "command": ["bash", "-lc", "echo hi"], "env": {}},
                    }
                )
            elif t.get("custom"):
                items.append(
                    {
                        "type": "custom_tool_call",
                        "id": hid("ctc_", body),
                        "call_id": hid("call_stub", body),
                        "name": t["name"],
                        "input": os.environ.get("STUB_CUSTOM_INPUT") or "echo hi",
                        "status": "completed",
                    }
                )
            else:
                it = {
                    "type": "function_call",
                    "id": hid("fc_stub", body),
                    "call_id": hid("call_stub", body),
                    "name": t["name"],
                    "arguments": json.dumps(a),
                    "status": "completed",
                }
                if t.get("ns"):
                    it["namespace"] = t["ns"]
                items.append(it)
        pt, ct = max(1, len(body) // 4), max(1, len(d["text"] or "") // 4)
        usage = {
            "input_tokens": pt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": ct,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": pt + ct,
        }
        base = {
            "id": rid,
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "model": model,
            "output": [],
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": None,
        }
        if not js.get("stream"):
            time.sleep(d["delay"])
            return self.send_json({**base, "status": "completed", "output": items, "usage": usage})
        self.sse_start()
        seq = itertools.count()
        ev = lambda t, **kw: self.sse({"type": t, "sequence_number": next(seq), **kw}, t)
        ev("response.created", response=base)
        ev("response.in_progress", response=base)
        for i, it in enumerate(items):
            if it["type"] == "message":
                ev("response.output_item.added", output_index=i, item={**it, "status": "in_progress", "content": []})
                ev(
                    "response.content_part.added",
                    output_index=i,
                    item_id=it["id"],
                    content_index=0,
                    part={"type": "output_text", "text": "", "annotations": []},
                )
                for j, p in enumerate(split(d["text"], d["pieces"])):
                    ev("response.output_text.delta", output_index=i, item_id=it["id"], content_index=0, delta=p)
                    if self.maybe_drop(d, j):
                        return
                    time.sleep(d["delay"])
                ev("response.output_text.done", output_index=i, item_id=it["id"], content_index=0, text=d["text"])
                ev(
                    "response.content_part.done",
                    output_index=i,
                    item_id=it["id"],
                    content_index=0,
                    part=it["content"][0],
                )
            elif it["type"] == "reasoning":
                ev("response.output_item.added", output_index=i, item={**it, "summary": []})
                ev(
                    "response.reasoning_summary_part.added",
                    output_index=i,
                    item_id=it["id"],
                    summary_index=0,
                    part={"type": "summary_text", "text": ""},
                )
                ev(
                    "response.reasoning_summary_text.delta",
                    output_index=i,
                    item_id=it["id"],
                    summary_index=0,
                    delta=d["think"],
                )
                ev(
                    "response.reasoning_summary_text.done",
                    output_index=i,
                    item_id=it["id"],
                    summary_index=0,
                    text=d["think"],
                )
            else:
                ev("response.output_item.added", output_index=i, item={**it, "status": "in_progress"})
                if it["type"] == "function_call":
                    ev(
                        "response.function_call_arguments.delta",
                        output_index=i,
                        item_id=it["id"],
                        delta=it["arguments"],
                    )
                    ev(
                        "response.function_call_arguments.done",
                        output_index=i,
                        item_id=it["id"],
                        arguments=it["arguments"],
                    )
            ev("response.output_item.done", output_index=i, item=it)
        ev("response.completed", response={**base, "status": "completed", "output": items, "usage": usage})
        self.sse_end()

    # --- Gemini
    def gemini(self, js, body, model, op):
        if op == "countTokens":
            log(**self.rec, kind="gemini.countTokens")
            return self.send_json({"totalTokens": len(body) // 4})
        if op in ("embedContent", "batchEmbedContents"):
            log(**self.rec, kind="gemini.embed")
            return self.send_json({"embedding": {"values": [0.1] * 8}, "embeddings": [{"values": [0.1] * 8}]})
        self.rec["model"] = model
        con = js.get("contents") or []
        con = con if isinstance(con, list) else [con]
        has_result, prompt = False, ""
        for m in reversed(con):
            if m.get("role") not in ("user", "function", None):
                if not has_result:
                    break
                continue
            parts = m.get("parts") or []
            if any("functionResponse" in p for p in parts):
                has_result = True
                continue
            prompt = "\n".join(p["text"] for p in parts if isinstance(p.get("text"), str))
            break
        tools = []
        for t in js.get("tools") or []:
            for f in t.get("functionDeclarations") or t.get("function_declarations") or []:
                tools.append(
                    {"name": f.get("name", ""), "schema": f.get("parametersJsonSchema") or f.get("parameters")}
                )
        d = decide(prompt, has_result, tools, model, body)
        gc = js.get("generationConfig") or {}
        sch = gc.get("responseJsonSchema") or gc.get("responseSchema")
        if sch:
            d["text"], d["calls"] = json.dumps(instance(sch)), []
        elif gc.get("responseMimeType") == "application/json":
            d["text"], d["calls"] = "{}", []
        if not self.pre(d, "gemini." + op, prompt):
            return
        pt, ct = max(1, len(body) // 4), max(1, len(d["text"] or "") // 4)
        usage = {"promptTokenCount": pt, "candidatesTokenCount": ct, "totalTokenCount": pt + ct}
        rid = hid("stub", body)
        calls = [{"functionCall": {"name": t["name"], "args": a}} for t, a in d["calls"]]
        mk = lambda parts, fin=None: {
            "candidates": [
                {"content": {"role": "model", "parts": parts}, "index": 0, **({"finishReason": fin} if fin else {})}
            ],
            "modelVersion": model,
            "responseId": rid,
            "usageMetadata": usage,
        }
        think = [{"text": "**Stub thought** " + d["think"], "thought": True}] if d["think"] else []
        if op == "generateContent":
            time.sleep(d["delay"])
            return self.send_json(mk(think + [{"text": d["text"]}] + calls, "STOP"))
        self.sse_start()
        if think:
            self.sse(mk(think))
        for j, p in enumerate(split(d["text"] or "", d["pieces"])):
            self.sse(mk([{"text": p}]))
            if self.maybe_drop(d, j):
                return
            time.sleep(d["delay"])
        self.sse(mk(calls or [{"text": ""}], "STOP"))
        self.sse_end()

    # --- Ollama
    def ollama(self, js, body, path):
        msgs = js.get("messages") or [{"role": "user", "content": js.get("prompt", "")}]
        idx = max((i for i, m in enumerate(msgs) if m.get("role") == "user"), default=-1)
        prompt = flat(msgs[idx].get("content")) if idx >= 0 else ""
        has_result = any(m.get("role") == "tool" for m in msgs[idx + 1 :])
        tools = [
            {"name": t["function"].get("name", ""), "schema": t["function"].get("parameters")}
            for t in js.get("tools") or []
            if t.get("function")
        ]
        model = js.get("model", "stub")
        d = decide(prompt, has_result, tools, model, body)
        if not self.pre(d, "ollama", prompt):
            return
        tc = [{"function": {"name": t["name"], "arguments": a}} for t, a in d["calls"]]
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        fin = {
            "done": True,
            "done_reason": "stop",
            "total_duration": 1,
            "prompt_eval_count": len(body) // 4,
            "eval_count": 5,
        }
        key = (
            (lambda t, c=(): {"message": {"role": "assistant", "content": t, **({"tool_calls": list(c)} if c else {})}})
            if path == "/api/chat"
            else (lambda t, c=(): {"response": t})
        )
        if js.get("stream") is False:
            return self.send_json({"model": model, "created_at": now, **key(d["text"], tc), **fin})
        self.sse_start("application/x-ndjson")
        for p in split(d["text"] or "", d["pieces"]):
            self.chunk(json.dumps({"model": model, "created_at": now, **key(p), "done": False}) + "\n")
            time.sleep(d["delay"])
        self.chunk(json.dumps({"model": model, "created_at": now, **key("", tc), **fin}) + "\n")
        self.sse_end()


class S(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass


srv = S(("127.0.0.1", A.port), H)
port = srv.server_address[1]
if A.portfile:
    with open(A.portfile + ".tmp", "w") as f:
        f.write(str(port))
    os.replace(A.portfile + ".tmp", A.portfile)
print("PORT", port, "PID", os.getpid(), flush=True)
try:
    srv.serve_forever()
except KeyboardInterrupt:
    pass
