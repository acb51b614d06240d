#!/bin/bash
# bash qwen-code.sh OUTDIR [VERSION] ; ONLY="a b" limits scenarios
. "$(dirname "$0")/common.sh"
OUT=${1:?OUTDIR}; VER=${2:-0.24.4}; mkdir -p "$OUT/_trace"; OUT=$(cd "$OUT"; pwd)
node22; I=$LAB/qwen-code-$VER
PATH=$PATH22 npm_install $I @qwen-code/qwen-code@$VER qwen; BIN=$I/node_modules/.bin/qwen
W=$(mktemp -d $LAB/run-qwen.XXXXXX); one_home $W; R=$W/repo; mkrepo $R; STUB_CWD=$R start_stub $W
cd $R; T=360
conf() { mkdir -p $W/$1/.qwen; [ -e $W/$1/.qwen/settings.json ] || echo '{"selectedAuthType":"openai","security":{"auth":{"selectedType":"openai"},"folderTrust":{"enabled":false}},"general":{"disableAutoUpdate":true,"enableAutoUpdate":false},"privacy":{"usageStatisticsEnabled":false},"telemetry":{"enabled":false},"disableAutoUpdate":true}' > $W/$1/.qwen/settings.json; }
E() { echo env -i HOME=$W/$1 PATH=$PATH22 LANG=C.UTF-8 TERM=xterm-256color OPENAI_API_KEY=dummy OPENAI_BASE_URL=http://127.0.0.1:$PORT/v1 OPENAI_MODEL=${MODEL:-qwen3-coder-plus} HTTPS_PROXY=http://127.0.0.1:$PORT NO_PROXY=127.0.0.1,localhost QWEN_CODE_SUPPRESS_YOLO_WARNING=1 ${EXTRA_ENV:-}; }
qx() { local n=$1; shift; conf $n; timeout $T $(E $n) $BIN "$@" </dev/null 2>$W/$n.err | cut -c1-200 | tail -2; }
qxx() { local n=$1; shift; conf $n; timeout $T $STRACE -o $OUT/_trace/$n.strace $(E $n) $BIN "$@" </dev/null 2>$W/$n.err | cut -c1-200 | tail -2; }
keep() { local n=$1; snap $W/$n $OUT/$n .qwen; echo "$VERS" > $OUT/$n/VERSION; echo "--- $n"; (cd $OUT/$n; find . \( -path '*chats*' -o -path '*tmp*' -o -path '*subagents*' \) -name '*.json*' | xargs -r wc -cl | head -14); }
sid() { ls -t $W/$1/.qwen/projects/*/chats/*.jsonl | head -1 | xargs basename | sed 's/.jsonl//'; }
want() { [ -z "${ONLY:-}" ] || [[ " $ONLY " == *" $1 "* ]]; }
conf _v; VERS=$($(E _v) $BIN --version 2>/dev/null | tail -1); echo "$VERS" | tee $OUT/VERSION
want plain && { qx plain -p 'hello plain'; keep plain; }
want tool && { qxx tool -y -p 'USE_TOOL now please'; qx tool -y -p 'TWO_TOOLS please'; keep tool; }
want resume && { qx resume -p 'first prompt of the resume scenario'; S=$(sid resume); cp -a $W/resume/.qwen $OUT/_trace/resume-before; sleep 1; qxx resume -y -c -p 'second prompt by --continue USE_TOOL'; qx resume --resume $S -p 'third prompt by id'; keep resume; }
want fork && { qx fork -p 'first prompt of the fork scenario'; S=$(sid fork); sleep 1; qxx fork --resume $S --fork-session -p 'in the fork'; keep fork; }
want model2 && { qx model2 -p 'hello from model one'; MODEL=qwen3-max qx model2 -c -m qwen3-max -p 'hello from model two'; keep model2; }
want sessionid && { qx sessionid --session-id 11111111-2222-4333-8444-555555555555 -p 'own id'; qx sessionid --chat-recording=false -p 'not recorded'; keep sessionid; }
want subagent && { STUB=1 qx subagent -y -p 'USE_SUBAGENT please'; keep subagent; }
want killed && { conf killed; run_killed $W/stub/requests.jsonl 3 $(E killed) $BIN -p 'SLOW story, gets killed'; cp -a $W/killed/.qwen $OUT/_trace/killed-before-resume; qx killed -c -p 'after the kill'; keep killed; }
want weird && { qx weird -p $'WEIRD please \xe2\x80\xa8 with CR\rLF\r\n and "quotes" \\ \xf0\x9f\x98\x80' >/dev/null; qxx weird -p 'BIG=3000000 please' >/dev/null; qx weird -p 'THINK please'; keep weird; }
want write && { qx write -y -p 'WRITE_FILE please'; keep write; }
want lines && { qx lines -y -p 'LINES=30000 please'; keep lines; }
want image && { picture $R/pic.png; qx image -y -p 'what is in @pic.png'; keep image; }
want errors && { qx errors -p 'ERR400 please'; T=40 qx errors -p 'DROP please'; keep errors; }
want interactive && { H=$W/interactive; conf interactive; S="tmux -L lab-qwen-$$"
  $S new-session -d -s c -x 160 -y 50 "cd $R && $STRACE -o $OUT/_trace/interactive.strace $(E interactive) $BIN -y; sleep 1"
  shot() { echo "===== $1" >> $OUT/_trace/interactive.screen; $S capture-pane -p -t c >> $OUT/_trace/interactive.screen; rm -rf $OUT/_trace/int-$1; mkdir -p $OUT/_trace/int-$1; cp -a $H/.qwen/projects $OUT/_trace/int-$1/ 2>/dev/null; }
  say() { $S send-keys -t c -l "$1"; sleep 1; $S send-keys -t c Enter; sleep ${2:-6}; settled "$S"; shot $3; }
  : > $OUT/_trace/interactive.screen; shows "$S" 'Type your message'; shot 0started; say 'hello interactive USE_TOOL' 8 1first; shows "$S" 'final answer'; say 'second turn' 5 2second; say '/rename my renamed session' 5 3renamed; say '/compress' 8 4compressed; say 'after compress' 6 5aftercompress; say '/clear' 5 6cleared; say 'after clear' 6 7afterclear; say '/quit' 5 9quit
  tmux_stop "$S"; keep interactive; }
cp $W/stub/requests.jsonl $OUT/_trace/requests-$(date +%s).jsonl; stop_stub; echo "work dir: $W"
