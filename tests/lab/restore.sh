#!/bin/bash
# bash restore.sh TOOL SESSIOND [SCENARIO]   -> starts a session of the real tool on machine 1, restores it on machine 2 and resumes it there.
# Passes if the resumed tool sends the earlier prompt, the call and its result to the stub; what fails is taken out of restored.toml.
# TOOL: see the cases below and restorable/. PATIENCE: see lib.sh.
# SCENARIO: tool (default), subagent (whose files or session must be on machine 2 too), fork (of a session on machine 1).
. "$(dirname "$0")/common.sh"
TOOL=${1:?TOOL}; SD=$(realpath "${2:?SESSIOND}"); SCENARIO=${3:-tool}; WORD=USE_TOOL; [ $SCENARIO = subagent ] && WORD=USE_SUBAGENT
node22
W=$(mktemp -d "$LAB/restore-$TOOL.XXXXXX"); P1=$W/m1/work/proj; P2=$W/m2/src/my_other.proj
case $TOOL in kimi*) export STUB_AGENT=coder;; gemini-cli) export STUB_AGENT=codebase_investigator;; opencode|kilo-code) export STUB_AGENT=general;; droid) export STUB_AGENT=worker;; esac # an agent that it has
mkrepo "$P1"; mkrepo "$P2"; STUB_CWD=$P1 start_stub "$W"
on() { local m=$1 p; shift; p=$P1; [ "$m" = m1 ] || p=$P2; (cd "$p" && timeout $((60 * ${PATIENCE:-4})) env -i HOME="$W/$m" PATH="$BIN:$PATH22" LANG=C.UTF-8 TERM=xterm-256color HTTPS_PROXY=http://127.0.0.1:$PORT NO_PROXY=127.0.0.1,localhost $ENVS "$@" </dev/null); }
case $TOOL in
claude-code) VER=2.1.332; npm_install $LAB/claude-code-$VER @anthropic-ai/claude-code@$VER claude; BIN=$LAB/claude-code-$VER/node_modules/.bin
  ENVS="ANTHROPIC_BASE_URL=http://127.0.0.1:$PORT ANTHROPIC_API_KEY=sk-ant-dummy-lab"
  begin() { on m1 claude -p "LABPROMPT please $WORD now" --allowedTools Bash,Read,Write,Task,Agent; }; fork() { on m1 claude --resume "$1" --fork-session -p 'LABFORK'; }; resume() { on m2 claude --resume "$1" -p 'LABSECOND'; };;
codex) VER=0.171.0; npm_install $LAB/codex-$VER @openai/codex@$VER codex; BIN=$LAB/codex-$VER/node_modules/.bin; ENVS="STUB_KEY=dummy"
  for m in m1 m2; do p=$P1; [ $m = m1 ] || p=$P2; mkdir -p "$W/$m/.codex"; printf 'model = "gpt-5"\nmodel_provider = "stub"\napproval_policy = "never"\nsandbox_mode = "danger-full-access"\n[model_providers.stub]\nname = "stub"\nbase_url = "http://127.0.0.1:%s/v1"\nenv_key = "STUB_KEY"\nwire_api = "responses"\n[projects."%s"]\ntrust_level = "trusted"\n' "$PORT" "$p" >"$W/$m/.codex/config.toml"; done
  begin() { on m1 codex exec "LABPROMPT please $WORD now"; }; fork() { sleep 1; on m1 codex exec fork "$1" 'LABFORK'; }; resume() { on m2 codex exec resume "$1" 'LABSECOND'; };;
opencode) SUBAGENTS=yes; VER=1.18.33; npm_install $LAB/opencode-$VER/pkg opencode-ai@$VER opencode; BIN=$LAB/opencode-$VER/pkg/node_modules/.bin
  ENVS="OPENCODE_DISABLE_MODELS_FETCH=1 OPENCODE_DISABLE_AUTOUPDATE=1 OPENCODE_DISABLE_LSP_DOWNLOAD=1"
  for m in m1 m2; do mkdir -p "$W/$m/.config/opencode"; printf '{"model":"stub/stub-model","small_model":"stub/stub-model","autoupdate":false,"share":"disabled","permission":{"edit":"allow","bash":"allow"},"provider":{"stub":{"npm":"@ai-sdk/openai-compatible","name":"Stub","options":{"baseURL":"http://127.0.0.1:%s/v1","apiKey":"stub"},"models":{"stub-model":{"name":"Stub Model","limit":{"context":100000,"output":4000}}}}}}' "$PORT" >"$W/$m/.config/opencode/opencode.json"; done
  begin() { on m1 opencode run "LABPROMPT $WORD please run echo"; }; fork() { on m1 opencode run --continue --fork 'LABFORK'; }; resume() { on m2 opencode run --session "$1" 'LABSECOND'; };;
kilo-code) SUBAGENTS=yes; VER=7.7.7; npm_install $LAB/kilo-$VER/pkg @kilocode/cli@$VER kilo; BIN=$LAB/kilo-$VER/pkg/node_modules/.bin
  ENVS="KILO_DISABLE_MODELS_FETCH=1 KILO_DISABLE_AUTOUPDATE=1 KILO_DISABLE_LSP_DOWNLOAD=1 KILO_TELEMETRY_LEVEL=off"
  for m in m1 m2; do mkdir -p "$W/$m/.config/kilo"; printf '{"model":"stub/stub-model","small_model":"stub/stub-model","autoupdate":false,"share":"disabled","permission":{"edit":"allow","bash":"allow"},"provider":{"stub":{"npm":"@ai-sdk/openai-compatible","name":"Stub","options":{"baseURL":"http://127.0.0.1:%s/v1","apiKey":"stub"},"models":{"stub-model":{"name":"Stub Model","limit":{"context":100000,"output":4000}}}}}}' "$PORT" >"$W/$m/.config/kilo/kilo.json"; done
  begin() { on m1 kilo run --auto -m stub/stub-model "LABPROMPT $WORD please run echo"; }; fork() { on m1 kilo run --auto -m stub/stub-model --continue --fork 'LABFORK'; }; resume() { on m2 kilo run --auto -m stub/stub-model --session "$1" 'LABSECOND'; };;
gemini-cli) SUBAGENTS=yes; VER=0.61.0; npm_install $LAB/gemini-cli-$VER @google/gemini-cli@$VER gemini; BIN=$LAB/gemini-cli-$VER/node_modules/.bin
  ENVS="GEMINI_API_KEY=dummy GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:$PORT GEMINI_CLI_TRUST_WORKSPACE=true"
  for m in m1 m2; do mkdir -p "$W/$m/.gemini"; echo '{"selectedAuthType":"gemini-api-key","security":{"auth":{"selectedType":"gemini-api-key"},"folderTrust":{"enabled":false}},"general":{"disableAutoUpdate":true,"enableAutoUpdate":false},"telemetry":{"enabled":false},"usageStatisticsEnabled":false}' >"$W/$m/.gemini/settings.json"; done
  begin() { on m1 gemini -y -p "LABPROMPT please $WORD now"; }; resume() { on m2 gemini -y --resume "$1" -p 'LABSECOND'; };;
qwen-code) SUBAGENTS=yes; VER=0.24.4; PATH=$PATH22 npm_install $LAB/qwen-code-$VER @qwen-code/qwen-code@$VER qwen; BIN=$LAB/qwen-code-$VER/node_modules/.bin
  ENVS="OPENAI_API_KEY=dummy OPENAI_BASE_URL=http://127.0.0.1:$PORT/v1 OPENAI_MODEL=qwen3-coder-plus QWEN_CODE_SUPPRESS_YOLO_WARNING=1"
  for m in m1 m2; do mkdir -p "$W/$m/.qwen"; echo '{"selectedAuthType":"openai","security":{"auth":{"selectedType":"openai"},"folderTrust":{"enabled":false}},"general":{"disableAutoUpdate":true,"enableAutoUpdate":false},"telemetry":{"enabled":false}}' >"$W/$m/.qwen/settings.json"; done
  begin() { on m1 qwen -y -p "LABPROMPT please $WORD now"; }; fork() { on m1 qwen -y --resume "$1" --fork-session -p 'LABFORK'; }; resume() { on m2 qwen -y --resume "$1" -p 'LABSECOND'; };;
pi) VER=1.6.0; npm_install $LAB/pi-$VER/pkg @earendil-works/pi-coding-agent@$VER pi; BIN=$LAB/pi-$VER/pkg/node_modules/.bin; ENVS="PI_OFFLINE=1 PI_TELEMETRY=0"
  for m in m1 m2; do mkdir -p "$W/$m/.pi/agent"; printf '{"providers":{"stub":{"baseUrl":"http://127.0.0.1:%s/v1","apiKey":"stub","api":"openai-completions","models":[{"id":"stub-model","name":"Stub","reasoning":false,"input":["text"],"cost":{"input":0,"output":0,"cacheRead":0,"cacheWrite":0},"contextWindow":100000,"maxTokens":4000}]}}}' "$PORT" >"$W/$m/.pi/agent/models.json"; done
  begin() { on m1 pi --provider stub --model stub-model -p "LABPROMPT $WORD please run echo"; }; fork() { on m1 pi --provider stub --model stub-model --fork "$1" -p 'LABFORK'; }; resume() { on m2 pi --provider stub --model stub-model --session "$1" -p 'LABSECOND'; };;
copilot-cli) SUBAGENTS=yes; LEAST=1; VER=1.0.102; npm_install $LAB/copilot-$VER @github/copilot@$VER copilot; BIN=$LAB/copilot-$VER/node_modules/.bin
  ENVS="COPILOT_OFFLINE=true COPILOT_PROVIDER_BASE_URL=http://127.0.0.1:$PORT/v1 COPILOT_PROVIDER_API_KEY=dummy COPILOT_MODEL=gpt-5"
  begin() { on m1 copilot --allow-all-tools -p "LABPROMPT please $WORD now"; }; resume() { on m2 copilot --allow-all-tools "$1" -p 'LABSECOND'; };;
*) [ -f "$DRV/restorable/$TOOL.sh" ] || { echo "no recipe: $TOOL"; exit 2; }; . "$DRV/restorable/$TOOL.sh";;
esac
case $SCENARIO-$TOOL in subagent-claude-code|subagent-codex|tool-*) ;; *) { declare -F fork >/dev/null && [ $SCENARIO = fork ]; } || [ "$SCENARIO-${SUBAGENTS:-}" = subagent-yes ] || { echo "no scenario $SCENARIO of $TOOL"; stop_stub; exit 0; };; esac
mkdir -p "$W/endpoint"; mkfifo "$W/alive"; sleep 3600 >"$W/alive" & HOLD=$!
"$SD" serve --data "$W/endpoint" --port 0 --token-file "$W/token" --announce "$W/announced" --until-eof <"$W/alive" & SERVE=$!
for _ in $(seq 100); do [ -s "$W/announced" ] && break; sleep 0.1; done
URL=$(python3 -c "import json;print(json.load(open('$W/announced'))['url'])")
sd() { local m=$1; shift; on "$m" env SESSIOND_STATE_DIR="$W/$m/state" SESSIOND_MACHINE_ID="$m" SESSIOND_ENDPOINT__URL="$URL" SESSIOND_TOKEN="$(cat "$W/token")" "$SD" "$@"; }
# the session without a parent; of a fork, the other one
pick() { sd m1 ls --json --long | python3 -c "import json,sys;every=[json.loads(x) for x in sys.stdin];print(next(e['record']['id'] for e in every if (e['record']['id'] != '$ID' if '$1' == 'fork' else e['parent'] is None)))"; }
ID=
# how many transcripts of a machine have the prompt of the subagent: files, and sessions in a database
agents() { python3 "$DRV/subagents.py" "$W/$1"; }
begin >"$W/begin.out" 2>&1; sd m1 sync; ID=$(pick tool)
[ $SCENARIO = fork ] && { fork "$ID" >>"$W/begin.out" 2>&1; sd m1 sync; ID=$(pick fork); }
sd m1 ls; AGENTS=$(agents m1)
mv "$W/m1" "$W/hidden"; mkdir "$W/m1" # machine 1 is not there any more
sd m2 restore "$ID" --directory "$P2" | tee "$W/restore.out"; CODE=${PIPESTATUS[0]}
NATIVE=$(grep '^resume' "$W/restore.out" | grep -oE '[^ ]+$'); SINCE=$(ls "$W/stub/bodies" | wc -l)
RESTORED=$(agents m2); [ $SCENARIO = subagent ] && echo "files with the subagent's prompt: $AGENTS, restored: $RESTORED"
resume "$NATIVE" >"$W/resume.out" 2>&1
RESULTS='"type": ?"(tool_result|function_call_output)"|"functionResponse"|"role": ?"tool"' # how protocols name the result of a call
FOUND=; for f in $(cd "$W/stub/bodies"; grep -l LABSECOND -- * 2>/dev/null); do grep -q LABPROMPT "$W/stub/bodies/$f" && grep -qE "${RESULT:-$RESULTS}" "$W/stub/bodies/$f" && FOUND=$f; done
sd m2 sync; sd m2 ls --json
kill $HOLD $SERVE 2>/dev/null; end_under "$W"; stop_stub
[ $SCENARIO = fork ] && ! grep -q LABFORK "$W/stub/bodies/$FOUND" && FOUND=
[ $SCENARIO = subagent ] && [ "$AGENTS" -lt "${LEAST:-2}" ] && { echo "no subagent was started"; FOUND=; }
[ $SCENARIO = subagent ] && [ "$RESTORED" -lt "$AGENTS" ] && { echo "a subagent is missing"; FOUND=; }
[ -n "${RESULT:-}" ] && SCENARIO=text # the tool calls no tools
RECORD="$(dirname "$SD")/python -m lab.restored $TOOL $VER $SCENARIO"; export PYTHONPATH=daemon:tests; cd "$DRV/../.."
[ "$CODE" = 0 ] && [ -n "$FOUND" ] && { echo "PASSED $TOOL $VER $SCENARIO: $FOUND of $SINCE"; $RECORD passed; exit; }
echo "FAILED $TOOL $VER $SCENARIO: see $W"; tail -5 "$W/resume.out"; $RECORD failed; exit 1
