#!/bin/bash
# bash copilot.sh OUTDIR [VERSION] ; BYOK + offline: no login needed ; ONLY="a b" limits scenarios
. "$(dirname "$0")/common.sh"
OUT=${1:?OUTDIR}; VER=${2:-1.0.102}; mkdir -p "$OUT/_trace"; OUT=$(cd "$OUT"; pwd)
node22; I=$LAB/copilot-$VER
npm_install $I @github/copilot@$VER copilot; BIN=$I/node_modules/.bin/copilot
W=$(mktemp -d $LAB/run-copilot.XXXXXX); one_home $W; R=$W/repo; mkrepo $R; STUB_CWD=$R start_stub $W
cd $R; T=360
E() { mkdir -p $W/$1/.cache; [ -d $LAB/copilot/home/.cache/copilot ] && [ ! -e $W/$1/.cache/copilot ] && ln -s $LAB/copilot/home/.cache/copilot $W/$1/.cache/copilot; echo env -i HOME=$W/$1 PATH=$PATH22 LANG=C.UTF-8 TERM=xterm-256color COPILOT_OFFLINE=true COPILOT_PROVIDER_BASE_URL=http://127.0.0.1:$PORT/v1 COPILOT_PROVIDER_API_KEY=dummy COPILOT_MODEL=${MODEL:-gpt-5} HTTPS_PROXY=http://127.0.0.1:$PORT NO_PROXY=127.0.0.1,localhost ${EXTRA_ENV:-}; }
cp_() { local n=$1; shift; timeout $T $(E $n) $BIN "$@" </dev/null 2>$W/$n.err | cut -c1-160 | head -3; }
cpx() { local n=$1; shift; timeout $T $STRACE -o $OUT/_trace/$n.strace $(E $n) $BIN "$@" </dev/null 2>$W/$n.err | cut -c1-160 | head -3; }
keep() { local n=$1; snap $W/$n $OUT/$n .copilot; echo "$VERS" > $OUT/$n/VERSION; echo "--- $n"; (cd $OUT/$n; find . -name '*.json*' | xargs -r wc -cl | head -14); }
sid() { ls -td $W/$1/.copilot/session-state/*-* | head -1 | xargs basename; }
want() { [ -z "${ONLY:-}" ] || [[ " $ONLY " == *" $1 "* ]]; }
VERS=$($(E _v) $BIN --version 2>/dev/null | head -1); echo "$VERS" | tee $OUT/VERSION
want plain && { cpx plain -p 'hello plain'; keep plain; }
want tool && { cpx tool --allow-all-tools -p 'USE_TOOL now please'; cp_ tool --allow-all-tools -p 'TWO_TOOLS please'; keep tool; }
want resume && { cp_ resume -p 'first prompt of the resume scenario'; S=$(sid resume); cp -a $W/resume/.copilot/session-state $OUT/_trace/resume-before; sleep 1; cpx resume --allow-all-tools --continue -p 'second prompt by --continue USE_TOOL'; cp_ resume --resume=$S -p 'third prompt by id'; keep resume; }
want model2 && { cp_ model2 -p 'hello from model one'; MODEL=gpt-5-mini cp_ model2 --continue -p 'hello from model two'; keep model2; }
want sessionid && { cp_ sessionid --session-id 11111111-2222-4333-8444-555555555555 -p 'own id'; cp_ sessionid -n 'my name' -p 'named session'; keep sessionid; }
want home && { EXTRA_ENV="COPILOT_HOME=$W/home/other" cp_ home -p 'COPILOT_HOME elsewhere'; snap $W/home $OUT/home other .copilot; find $OUT/home -name events.jsonl; }
want subagent && { cp_ subagent --allow-all-tools -p 'USE_SUBAGENT please'; keep subagent; }
want killed && { run_killed $W/stub/requests.jsonl 3 $(E killed) $BIN -p 'SLOW story, gets killed'; cp -a $W/killed/.copilot $OUT/_trace/killed-before-resume; cp_ killed --continue -p 'after the kill'; keep killed; }
want weird && { cp_ weird -p $'WEIRD please \xe2\x80\xa8 with CR\rLF\r\n and "quotes" \\ \xf0\x9f\x98\x80' >/dev/null; cpx weird -p 'BIG=3000000 please' >/dev/null; cp_ weird -p 'THINK please'; keep weird; }
want write && { cp_ write --allow-all-tools -p 'WRITE_FILE please'; keep write; }
want lines && { cp_ lines --allow-all-tools -p 'LINES=30000 please'; keep lines; }
want image && { picture $R/pic.png; cp_ image --allow-all-tools -p 'what is in @pic.png'; keep image; }
want errors && { cp_ errors -p 'ERR400 please'; T=60 cp_ errors -p 'DROP please'; keep errors; }
want interactive && { H=$W/interactive; S="tmux -L lab-cop-$$"; E interactive >/dev/null
  $S new-session -d -s c -x 160 -y 50 "cd $R && $STRACE -o $OUT/_trace/interactive.strace $(E interactive) $BIN --allow-all-tools; sleep 1"
  shot() { echo "===== $1" >> $OUT/_trace/interactive.screen; $S capture-pane -p -t c >> $OUT/_trace/interactive.screen; rm -rf $OUT/_trace/int-$1; mkdir -p $OUT/_trace/int-$1; cp -a $H/.copilot $OUT/_trace/int-$1/ 2>/dev/null; }
  say() { $S send-keys -t c -l "$1"; sleep 1; $S send-keys -t c Enter; sleep ${2:-6}; settled "$S"; shot $3; }
  : > $OUT/_trace/interactive.screen; sleep 10; shot 0started; $S send-keys -t c Enter; sleep 4; shot 0trusted; say 'hello interactive USE_TOOL' 8 1first; say 'second turn' 5 2second; say '/rename my renamed session' 4 3renamed; say '/compact' 8 4compacted; say 'after compact' 6 5aftercompact; say '/clear' 5 6cleared; say 'after clear' 6 7afterclear; say '/exit' 5 9quit
  tmux_stop "$S"; keep interactive; }
cp $W/stub/requests.jsonl $OUT/_trace/requests-$(date +%s).jsonl; stop_stub; echo "work dir: $W"
