#!/bin/bash
# OpenClaw (npm openclaw; wants node 24): bash openclaw.sh OUTDIR
. $(dirname $0)/lib.sh
npm_inst $LAB/node24 node@24.21.0; export PATH=$LAB/node24/node_modules/.bin:$PATH
PK=$LAB/openclaw-${2:-2026.9.6}/pkg; npm_inst $PK openclaw@${2:-2026.9.6}; B=$PK/node_modules/.bin/openclaw
lab_begin openclaw $1; HOME=$H $B --version 2>&1 | tail -1 | tee $OUT/VERSION
mkdir -p $H/.openclaw; GW=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >$H/.openclaw/openclaw.json <<J
{"agents":{"defaults":{"workspace":"$REPO","model":{"primary":"stub/stub-model"},"skipBootstrap":true}},"tools":{"toolSearch":false},
"gateway":{"mode":"local","port":$GW,"bind":"loopback","auth":{"mode":"none"}},"update":{"checkOnStart":false},
"models":{"mode":"merge","providers":{"stub":{"baseUrl":"$BASE","apiKey":"stub","api":"openai-completions","models":[
{"id":"stub-model","name":"Stub","reasoning":false,"input":["text"],"cost":{"input":0,"output":0,"cacheRead":0,"cacheWrite":0},"contextWindow":100000,"maxTokens":4000},
{"id":"stub-model-2","name":"Stub2","reasoning":false,"input":["text"],"cost":{"input":0,"output":0,"cacheRead":0,"cacheWrite":0},"contextWindow":100000,"maxTokens":4000}]}}}}
J
# its launcher leaves the process that works in a group of its own
ours() { for p in /proc/[0-9]*; do tr '\0' '\n' <$p/environ 2>/dev/null | grep -qxF "HOME=$H" && tr '\0' ' ' <$p/cmdline | grep -q openclaw && echo ${p#/proc/}; done; }
S=".openclaw/agents"; P="agent --local --session-key"; K=agent:main
tr_run plain 300 $B $P $K:one -m "Say hello plainly"; snap 1-plain $S
tr_run tool 300 $B $P $K:two -m "USE_TOOL please run echo"; snap 2-tool $S
tr_run resume 300 $B $P $K:two --model stub/stub-model-2 -m "And again, resumed"; snap 3-resume $S
( cd $REPO; HOME=$H exec setsid $B gateway run </dev/null >$TR/gateway.out 2>&1 ) & GWPID=$!
for i in $(seq 200); do (exec 3<>/dev/tcp/127.0.0.1/$GW) 2>/dev/null && break; sleep 1; done; sleep 5
run fork 120 $B gateway call sessions.create --timeout 100000 --params "{\"parentSessionKey\":\"$K:two\",\"fork\":true,\"key\":\"$K:forked\",\"label\":\"A fork\"}"; cat $TR/fork.out | tail -5
KEY=$(sed -n 's/.*"key": "\([^"]*\)".*/\1/p' $TR/fork.out | head -1); echo "key $KEY"
run in_fork 300 $B agent --session-key ${KEY:-$K:forked} -m "In the fork"; snap 4-fork $S
run subagent 300 $B agent --session-key $K:four -m 'TOOL=sessions_spawn{"task":"Say hi","label":"hi"}'; sleep 10; snap 5-subagent $S
kill $(ours) 2>/dev/null; sleep 8; kill -9 $(ours) 2>/dev/null; wait $GWPID 2>/dev/null; snap 7-stopped $S
kill9_run kill9 2 $B $P $K:three -m "SLOW_kill9 SLOW tell a long story"; kill -9 $(ours) 2>/dev/null; snap 8-kill9 $S
run after 300 $B $P $K:three -m "After the crash"; snap 9-after-crash $S
cp -r $TR $OUT/trace; lab_end
