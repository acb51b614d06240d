"""The tools that the lab runs, and the expected results, counted by hand in what the tools wrote."""

from __future__ import annotations

import msgspec


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A script, its scenarios, and the sessions that it must lead to."""

    tool: str
    script: str
    version: str
    package: str = ""
    """Where newer versions are published: "npm:NAME" or "pypi:NAME"; none for a version that is kept for its layout."""
    only: str = ""
    """The scenarios, for scripts that take a choice."""
    counts: tuple[int, ...]
    """The message counts of all sessions, ascending."""
    unwaited: int = 0
    """How many messages may be missing: of subagents and deletions that the tool does not wait for."""
    models: frozenset[str]
    """The models that sessions may name; none where the tool keeps none."""
    branch: str | None = None
    """The branch that each session names; None where the tool keeps none."""
    placed: bool = True
    """Whether the working directory is in its sessions."""
    timed: bool = True
    """Whether times are in its sessions; otherwise the times of its files are used, which a daemon sees sooner."""
    versioned: bool = True
    """Whether the tool's own version is in its sessions."""


LAB = "lab-branch"
FEATURE = "feature/lab"
STUB = frozenset(["stub-model"])
STUBS = STUB | {"stub-model-2"}
MOST = "plain tool resume fork model2 subagent killed weird"

RUNS = (
    Run(
        tool="claude-code",
        script="claude-code.sh",
        version="2.1.332",
        package="npm:@anthropic-ai/claude-code",
        only=f"{MOST} lines interactive",
        counts=(2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 7, 12),
        models=frozenset(["claude-opus-5-5", "claude-sonnet-4-5", "claude-haiku-4-5"]),
        branch=LAB,
    ),
    Run(
        tool="claude-code",
        script="claude-code.sh",
        version="2.0.14",
        only="plain resume subagent",
        counts=(2, 3, 7),
        models=frozenset(["claude-sonnet-4-5-20250929"]),
        branch=LAB,
    ),
    Run(
        tool="claude-code",
        script="claude-code.sh",
        version="1.0.60",
        only="plain resume",
        counts=(2, 2, 2, 3),
        models=frozenset(["claude-sonnet-4-20250514"]),
        branch=LAB,
    ),
    Run(
        tool="codex",
        script="codex.sh",
        version="0.171.0",
        package="npm:@openai/codex",
        only=f"{MOST} archive write lines image interactive",
        counts=(2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 4, 6, 6),
        unwaited=2,
        models=frozenset(["gpt-5", "gpt-5-codex"]),
        branch=LAB,
    ),
    Run(
        tool="codex",
        script="codex.sh",
        version="0.80.0",
        only="plain tool resume killed",
        counts=(2, 2, 2, 3, 6),
        models=frozenset(["gpt-5"]),
        branch=LAB,
    ),
    Run(
        tool="codex",
        script="codex.sh",
        version="0.20.0",
        only="plain",
        counts=(2,),
        models=frozenset(),
        branch=LAB,
        versioned=False,
        placed=False,
    ),
    Run(
        tool="gemini-cli",
        script="gemini-cli.sh",
        version="0.61.0",
        package="npm:@google/gemini-cli",
        only="plain tool resume model2 subagent killed write lines image interactive",
        counts=(2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 4, 4, 6, 7),
        models=frozenset(["gemini-3.8-flash", "gemini-3-flash-preview", "gemini-2.5-pro", "gemini-2.5-flash"]),
        versioned=False,
    ),
    Run(
        tool="grok-build",
        script="grok.sh",
        version="1.0.41",
        package="npm:@xai-official/grok-linux-x64",
        counts=(2, 2, 2, 3, 3, 3, 3, 5),
        models=STUBS,
        branch=FEATURE,
        versioned=False,
    ),
    Run(
        tool="hermes",
        script="hermes.sh",
        version="0.19.0",
        package="pypi:hermes-agent",
        counts=(2, 2, 2, 2, 3, 3, 3, 3, 5),
        unwaited=1,
        models=STUB,
        versioned=False,
    ),
    Run(
        tool="qwen-code",
        script="qwen-code.sh",
        version="0.24.4",
        package="npm:@qwen-code/qwen-code",
        only="plain tool resume fork model2 subagent killed write lines image interactive",
        counts=(2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 7, 7),
        models=frozenset(["qwen3-coder-plus", "qwen3-max"]),
        branch=LAB,
    ),
    Run(
        tool="copilot-cli",
        script="copilot.sh",
        version="1.0.102",
        package="npm:@github/copilot",
        only="plain tool resume model2 subagent killed write lines image interactive",
        counts=(2, 2, 2, 3, 3, 3, 3, 3, 3, 4, 7, 7),
        models=frozenset(["gpt-5", "gpt-5-mini"]),
        branch=LAB,
    ),
    Run(
        tool="opencode",
        script="opencode.sh",
        version="1.18.33",
        package="npm:opencode-ai",
        counts=(2, 2, 2, 3, 3, 3, 3, 5),
        models=STUB,
    ),
    Run(tool="opencode", script="opencode-old.sh", version="1.1.65", counts=(2, 2, 2, 3, 4, 5), models=STUB),
    Run(
        tool="kilo-code",
        script="kilo.sh",
        version="7.7.7",
        package="npm:@kilocode/cli",
        counts=(2, 2, 2, 3, 3, 3, 3, 5),
        models=STUB,
    ),
    Run(
        tool="cline",
        script="cline.sh",
        version="3.0.65",
        package="npm:cline",
        counts=(0, 2, 2, 3, 3, 3, 5),
        models=STUB,
        branch=FEATURE,
    ),
    Run(
        tool="codebuddy",
        script="codebuddy.sh",
        version="2.163.0",
        counts=(2, 2, 3, 3, 5),
        models=STUBS,
        versioned=False,
    ),
    Run(
        tool="continue",
        script="continue.sh",
        version="1.5.47",
        package="npm:@continuedev/cli",
        counts=(2, 3, 3, 5, 5, 7),
        models=STUB,
        timed=False,
        versioned=False,
    ),
    Run(
        tool="oh-my-pi",
        script="oh-my-pi.sh",
        version="18.2.3",
        package="npm:@oh-my-pi/pi-coding-agent",
        counts=(2, 2, 2, 5, 5),
        models=STUBS,
        versioned=False,
    ),
    Run(
        tool="openclaw",
        script="openclaw.sh",
        version="2026.9.6",
        package="npm:openclaw",
        counts=(2, 2, 2, 2, 4, 7),
        # Its heartbeat, a prompt and an answer, comes in time or does not.
        unwaited=2,
        models=STUB,
        versioned=False,
    ),
    Run(
        tool="pi",
        script="pi.sh",
        version="1.6.0",
        package="npm:@earendil-works/pi-coding-agent",
        counts=(2, 2, 2, 2, 3, 3, 3, 5, 7),
        models=STUBS,
        versioned=False,
    ),
    Run(tool="pi", script="pi.sh", version="0.73.1", counts=(2, 2, 4, 5, 7), models=STUBS, versioned=False),
    Run(
        tool="droid",
        script="droid.sh",
        version="0.225.2",
        package="npm:@factory/cli-linux-x64",
        counts=(1, 2, 2, 2, 3, 3, 3, 3),
        models=frozenset(["custom:Stub-0"]),
        versioned=False,
    ),
    Run(
        tool="droid",
        script="droid.sh",
        version="0.215.0",
        counts=(1, 2, 2, 2, 3, 3, 3, 3),
        models=frozenset(["custom:Stub-0"]),
        versioned=False,
    ),
    Run(
        tool="kimi",
        script="kimi.sh",
        version="1.49.0",
        counts=(1, 2, 2, 3, 3, 5, 5, 7),
        models=frozenset(),
        versioned=False,
    ),
    Run(
        tool="kimi",
        script="kimi-code.sh",
        version="2.1.0",
        package="npm:@moonshot-ai/kimi-code",
        counts=(0, 2, 2, 3, 3, 3, 3, 5, 5),
        # A fork without messages of its own has the alias.
        models=STUBS | {"stub"},
        versioned=False,
    ),
    Run(
        tool="mistral-vibe",
        script="vibe.sh",
        version="3.0.2",
        package="pypi:mistral-vibe",
        counts=(2, 2, 3, 3, 3, 5),
        models=STUB,
        versioned=False,
    ),
    Run(
        tool="mistral-vibe",
        script="vibe2.sh",
        version="2.26.1",
        counts=(2, 5, 5),
        models=frozenset(["stub"]),
        branch=FEATURE,
        versioned=False,
    ),
    Run(
        tool="aider",
        script="aider.sh",
        version="0.86.2",
        package="pypi:aider-chat",
        counts=(1, 2, 2, 2, 2, 2, 6),
        models=frozenset(["openai/stub-model"]),
    ),
    Run(
        tool="nanocoder",
        script="nanocoder.sh",
        version="1.30.0",
        package="npm:@nanocollective/nanocoder",
        counts=(1, 2, 3, 3, 3),
        models=STUB,
        versioned=False,
    ),
    Run(
        tool="reasonix",
        script="reasonix.sh",
        version="1.38.11",
        package="npm:reasonix",
        counts=(2, 2, 3, 3, 3, 5),
        models=frozenset(["stub/stub-model", "stub2/stub-model-2"]),
        versioned=False,
    ),
    Run(
        tool="llm",
        script="llm.sh",
        version="0.36",
        package="pypi:llm",
        counts=(2, 2, 2, 3, 3, 4, 5),
        models=STUBS,
        placed=False,
        versioned=False,
    ),
    Run(
        tool="gptme",
        script="gptme.sh",
        version="0.35.1",
        package="pypi:gptme",
        counts=(4, 4, 4, 5, 5, 8, 9),
        models=frozenset(["local/stub-model"]),
        versioned=False,
    ),
    Run(
        tool="openhands",
        script="openhands.sh",
        version="1.16.0",
        package="pypi:openhands",
        counts=(2, 2, 2, 2, 4),
        models=frozenset(["openai/stub-model"]),
        versioned=False,
    ),
)

_DESKTOP = "a desktop program: it needs a display and an account"
_ABSENT = "not on npm or PyPI"
_UNPACKAGED = "its command line is not on npm, PyPI or Debian"
_FETCHED = "its npm package only fetches a binary from GitHub"
UNRUN = {
    "amazon-q": _ABSENT,
    "amp": "it begins no thread without its server and an account (0.0.1790142911); npm lacks newer binaries",
    "antigravity": _DESKTOP,
    "codewhale": f"{_ABSENT}; the package of its old name only says so (deepseek-tui 0.8.47)",
    "command-code": "it needs an account (1.64.0)",
    "copilot-chat": _DESKTOP,
    "crush": f"{_FETCHED} (0.96.1)",
    "cursor": _DESKTOP,
    "devin-cli": _ABSENT,
    "elia": "not tried: a program for the whole screen (1.10.0)",
    "goose": f"{_UNPACKAGED}; PyPI's goose-sdk only calls models, and keeps no sessions (0.1.0a13)",
    "icodemate": f"{_ABSENT}; it writes OpenCode's tables",
    "iflow": "its command line is not on npm or PyPI; what is there is a library that needs it (0.1.2)",
    "junie": f"{_FETCHED} (3110.7.0)",
    "kiro": _ABSENT,
    "mimocode": f"{_ABSENT}; it writes OpenCode's tables",
    "open-interpreter": "not on npm; on PyPI is its predecessor, which keeps no such files (0.4.3)",
    "openclaude": f"{_ABSENT}; it writes Claude Code's lines",
    "oterm": "not tried: a program for the whole screen (0.26.1)",
    "pearai": _DESKTOP,
    "qoder": "it needs an account (1.1.52)",
    "roo-code": _DESKTOP,
    "shelley": _ABSENT,
    "traex": _ABSENT,
    "warp": _DESKTOP,
    "zed": _DESKTOP,
}
"""Tools that the lab does not run, and why."""
