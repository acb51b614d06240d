#!/bin/bash
# CodeBuddy Code, as its SDK ships it (PyPI codebuddy-agent-sdk; its own npm package is not to be had): bash codebuddy.sh OUTDIR
. $(dirname $0)/lib.sh
uv_inst $LAB/codebuddy/venv python3 codebuddy-agent-sdk==0.3.274; B=$(ls $LAB/codebuddy/venv/lib/python3*/site-packages/codebuddy_agent_sdk/bin/codebuddy-headless); chmod +x $B
lab_begin codebuddy $1; HOME=$H $B --version 2>&1 | tail -1 | tee $OUT/VERSION
mkdir -p $H/.codebuddy
cat >$H/.codebuddy/models.json <<J
{"models":[{"id":"stub-model","name":"Stub","vendor":"Stub","apiKey":"stub","url":"$BASE/chat/completions","maxInputTokens":100000,"maxOutputTokens":4000,"supportsToolCall":true},
{"id":"stub-model-2","name":"Stub2","vendor":"Stub","apiKey":"stub","url":"$BASE/chat/completions","maxInputTokens":100000,"maxOutputTokens":4000,"supportsToolCall":true}]}
J
export CODEBUDDY_API_KEY=stub CODEBUDDY_BASE_URL=$BASE CODEBUDDY_IS_SANDBOX=1 STUB_AGENT=Explore
S=".codebuddy/projects .codebuddy/sessions"; P="-p -y --model stub-model"
tr_run plain 90 $B $P "Say hello plainly"; snap 1-plain $S
tr_run tool 90 $B $P "USE_TOOL please run echo"; snap 2-tool $S
ID=$(basename $(ls -t $H/.codebuddy/projects/*/*.jsonl | head -1) .jsonl); echo "id $ID"
tr_run resume 90 $B -p -y --model stub-model-2 --resume $ID "And again, resumed"; snap 3-resume $S
tr_run fork 90 $B $P --resume $ID --fork-session "Forked prompt"; snap 4-fork $S
tr_run subagent 90 $B $P "USE_SUBAGENT please"; snap 5-subagent $S
kill9_run kill9 2 $B $P "SLOW_kill9 SLOW tell a long story"; snap 6-kill9 $S
run after 90 $B $P --continue "After the crash"; snap 7-after-crash $S
cp -r $TR $OUT/trace; lab_end
