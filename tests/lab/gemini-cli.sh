#!/bin/bash
# bash gemini-cli.sh OUTDIR [VERSION] ; ONLY="a b" limits scenarios
. "$(dirname "$0")/common.sh"
OUT=${1:?OUTDIR}; VER=${2:-0.61.0}; mkdir -p "$OUT/_trace"; OUT=$(cd "$OUT"; pwd)
node22; I=$LAB/gemini-cli-$VER
npm_install $I @google/gemini-cli@$VER gemini; BIN=$I/node_modules/.bin/gemini
export STUB_AGENT=codebase_investigator; W=$(mktemp -d $LAB/run-gemini.XXXXXX); one_home $W; R=$W/repo; mkrepo $R; STUB_CWD=$R start_stub $W
cd $R; T=360
case $VER in 0.[56]?.*) PX="HTTPS_PROXY=http://127.0.0.1:$PORT NO_PROXY=127.0.0.1,localhost";; *) PX="NO_UPDATE=1";; esac
conf() { mkdir -p $W/$1/.gemini; [ -e $W/$1/.gemini/settings.json ] || echo '{"selectedAuthType":"gemini-api-key","security":{"auth":{"selectedType":"gemini-api-key"},"folderTrust":{"enabled":false}},"general":{"disableAutoUpdate":true,"enableAutoUpdate":false'"${GEN:-}"'},"privacy":{"usageStatisticsEnabled":false},"telemetry":{"enabled":false},"usageStatisticsEnabled":false,"disableAutoUpdate":true}' > $W/$1/.gemini/settings.json; }
E() { echo env -i HOME=$W/$1 PATH=$PATH22 LANG=C.UTF-8 TERM=xterm-256color GEMINI_API_KEY=dummy GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:$PORT $PX GEMINI_CLI_TRUST_WORKSPACE=true ${EXTRA_ENV:-}; }
gx() { local n=$1; shift; conf $n; timeout $T $(E $n) $BIN "$@" </dev/null 2>$W/$n.err | cut -c1-200 | tail -2; }
gxx() { local n=$1; shift; conf $n; timeout $T $STRACE -o $OUT/_trace/$n.strace $(E $n) $BIN "$@" </dev/null 2>$W/$n.err | cut -c1-200 | tail -2; }
keep() { local n=$1; snap $W/$n $OUT/$n .gemini; rm -f $OUT/$n/.gemini/tmp/bin/rg; echo "$VERS" > $OUT/$n/VERSION; echo "--- $n"; (cd $OUT/$n; find . -path '*tmp*' -name '*.json*' | xargs -r wc -cl | head -14); }
sid() { ls -t $W/$1/.gemini/tmp/*/chats/*.json* | head -1 | xargs head -c 300 | grep -oE '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}' | head -1; }
want() { [ -z "${ONLY:-}" ] || [[ " $ONLY " == *" $1 "* ]]; }
conf _v; VERS=$($(E _v) $BIN --version 2>/dev/null | tail -1); echo "$VERS" | tee $OUT/VERSION
want plain && { gxx plain -p 'hello plain'; keep plain; }
want tool && { gxx tool -y -p 'USE_TOOL now please'; gx tool -y -p 'TWO_TOOLS please'; gx tool -y -p 'READ_FILE please'; keep tool; }
want resume && { gx resume -p 'first prompt of the resume scenario'; cp -a $W/resume/.gemini $OUT/_trace/resume-before; sleep 1; gxx resume -y --resume latest -p 'second prompt by --resume latest USE_TOOL'; cp -a $W/resume/.gemini $OUT/_trace/resume-after2; S=$(sid resume); gx resume --resume $S -p 'third prompt by id'; timeout 40 $(E resume) $BIN --list-sessions 2>&1 </dev/null | tail -6; keep resume; }
want model2 && { gx model2 -m gemini-2.5-pro -p 'hello from model one'; gx model2 -m gemini-2.5-flash --resume latest -p 'hello from model two'; keep model2; }
want sessionid && { gx sessionid --session-id 11111111-2222-4333-8444-555555555555 -p 'own id'; keep sessionid; }
want subagent && { STUB_A=1; gx subagent -y -p 'USE_SUBAGENT please'; keep subagent; }
want killed && { conf killed; run_killed $W/stub/requests.jsonl 3 $(E killed) $BIN -p 'SLOW story, gets killed'; cp -a $W/killed/.gemini $OUT/_trace/killed-before-resume; gx killed --resume latest -p 'after the kill'; keep killed; }
want weird && { gx weird -p $'WEIRD please \xe2\x80\xa8 with CR\rLF\r\n and "quotes" \\ \xf0\x9f\x98\x80' >/dev/null; gxx weird -p 'BIG=3000000 please' >/dev/null; gx weird -p 'THINK please'; keep weird; }
want write && { gx write -y -p 'WRITE_FILE please'; keep write; }
want lines && { gx lines -y -p 'LINES=30000 please'; keep lines; }
want image && { picture $R/pic.png; gx image -y -p 'what is in @pic.png'; keep image; }
want errors && { gx errors -p 'ERR400 please'; T=40 gx errors -p 'ERR500 please'; T=40 gx errors -p 'DROP please'; keep errors; }
want two && { mkdir -p $W/b/repo; mkrepo $W/b/repo; gx two -p 'repo a'; (cd $W/b/repo; gx two -p 'repo b, same base name'); keep two; cat $W/two/.gemini/projects.json; }
want delete && { gx delete -p 'session one'; gx delete -p 'session two'; find $W/delete/.gemini/tmp -type f | sort > $OUT/_trace/delete-before.txt; timeout 60 $STRACE -o $OUT/_trace/delete.strace $(E delete) $BIN --delete-session 1 </dev/null 2>&1 | tail -1; find $W/delete/.gemini/tmp -type f | sort > $OUT/_trace/delete-after.txt; diff $OUT/_trace/delete-before.txt $OUT/_trace/delete-after.txt; }
want retention && { gx retention -p 'old one'; F=$(ls $W/retention/.gemini/tmp/*/chats/*.json*); python3 - $F <<'PY'
import sys,re,os,time
f=sys.argv[1]; s=open(f).read(); s=s.replace('2026-11-','2026-09-'); g=f.replace('2026-11-','2026-09-'); open(g,'w').write(s); os.remove(f); t=time.time()-60*86400; os.utime(g,(t,t))
PY
ls -la $W/retention/.gemini/tmp/*/chats > $OUT/_trace/retention.txt; gxx retention -p 'new one'; ls -la $W/retention/.gemini/tmp/*/chats >> $OUT/_trace/retention.txt; cat $OUT/_trace/retention.txt; keep retention; }
want interactive && { H=$W/interactive; conf interactive; S="tmux -L lab-gem-$$"
  $S new-session -d -s c -x 160 -y 50 "cd $R && $STRACE -o $OUT/_trace/interactive.strace $(E interactive) $BIN -y; sleep 1"
  shot() { echo "===== $1" >> $OUT/_trace/interactive.screen; $S capture-pane -p -t c >> $OUT/_trace/interactive.screen; rm -rf $OUT/_trace/int-$1; mkdir -p $OUT/_trace/int-$1; cp -a $H/.gemini/tmp $OUT/_trace/int-$1/ 2>/dev/null; }
  say() { $S send-keys -t c -l "$1"; sleep 1; $S send-keys -t c Enter; sleep ${2:-6}; settled "$S"; shot $3; }
  : > $OUT/_trace/interactive.screen; shows "$S" 'Type your message'; shot 0started; say 'hello interactive USE_TOOL' 8 1first; shows "$S" 'final answer'; say 'second turn' 5 2second; say '/chat save mytag' 5 3saved; say '/compress' 8 4compressed; say 'after compress' 6 5aftercompress; say '/clear' 5 6cleared; say 'after clear' 6 7afterclear; say '/rewind' 5 8rewind; $S send-keys -t c Escape; sleep 1; say '/quit' 5 9quit
  tmux_stop "$S"; keep interactive; }
cp $W/stub/requests.jsonl $OUT/_trace/requests-$(date +%s).jsonl; stop_stub; echo "work dir: $W"
