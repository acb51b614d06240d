#!/bin/bash
# bash codex.sh OUTDIR [VERSION]   -> real Codex CLI sessions in OUTDIR/<scenario>/..., traces in OUTDIR/_trace ; ONLY="a b" limits scenarios
. "$(dirname "$0")/common.sh"
OUT=${1:?OUTDIR}; VER=${2:-0.169.0}; mkdir -p "$OUT/_trace"; OUT=$(cd "$OUT"; pwd)
node22
I=$LAB/codex-$VER
npm_install $I @openai/codex@$VER codex
BIN=$I/node_modules/.bin/codex
W=$(mktemp -d $LAB/run-codex.XXXXXX); one_home $W; R=$W/repo; mkrepo $R; STUB_CWD=$R start_stub $W
cd $R; T=360
conf() { mkdir -p $W/$1/.codex; [ -e $W/$1/.codex/config.toml ] || cat > $W/$1/.codex/config.toml <<EOT
model = "gpt-5"
model_provider = "stub"
approval_policy = "never"
sandbox_mode = "danger-full-access"
[model_providers.stub]
name = "stub"
base_url = "http://127.0.0.1:$PORT/v1"
env_key = "STUB_KEY"
wire_api = "responses"
request_max_retries = 1
stream_max_retries = 1
[projects."$R"]
trust_level = "trusted"
EOT
}
E() { echo env -i HOME=$W/$1 PATH=$PATH22 LANG=C.UTF-8 TERM=xterm-256color STUB_KEY=dummy HTTPS_PROXY=http://127.0.0.1:$PORT NO_PROXY=127.0.0.1,localhost ${EXTRA_ENV:-}; }
cx() { local n=$1; shift; conf $n; timeout $T $(E $n) $BIN "$@" </dev/null 2>$W/$n.err | cut -c1-200 | tail -3; }
cxx() { local n=$1; shift; conf $n; local tr=$OUT/_trace/$n.strace; timeout $T $STRACE -o $tr $(E $n) $BIN "$@" </dev/null 2>$W/$n.err | cut -c1-200 | tail -3; }
sid() { ls -t $(find $W/$1/.codex/sessions -name 'rollout-*.jsonl') | head -1 | grep -oE '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'; }
keep() { local n=$1; local c=$W/$n/.codex; rm -rf $OUT/$n; mkdir -p $OUT/$n/.codex; for p in sessions archived_sessions history.jsonl session_index.jsonl config.toml state_5.sqlite state_5.sqlite-wal thread_history_1.sqlite thread_history_1.sqlite-wal thread-writer-locks; do [ -e $c/$p ] && cp -a $c/$p $OUT/$n/.codex/; done; find $c -name '*.sqlite' | sed "s#$W/##" > $OUT/$n/sqlite-files.txt; echo "$VERS" > $OUT/$n/VERSION; echo "--- $n"; (cd $OUT/$n; find . -name '*.json*' | xargs -r wc -cl | head -12); }
want() { [ -z "${ONLY:-}" ] || [[ " $ONLY " == *" $1 "* ]]; }
conf _v; VERS=$($(E _v) $BIN --version 2>/dev/null); echo "$VERS"; echo "$VERS" > $OUT/VERSION
want plain && { cxx plain exec 'hello plain'; keep plain; }
want tool && { cxx tool exec 'please USE_TOOL now'; cx tool exec 'TWO_TOOLS please'; keep tool; }
want resume && { cx resume exec 'first prompt of the resume scenario'; S=$(sid resume); cp -a $W/resume/.codex/sessions $OUT/_trace/resume-before; sleep 1
  cxx resume exec resume --last 'second prompt by --last USE_TOOL'; cx resume exec resume $S 'third prompt by id'; keep resume; }
want fork && { cx fork exec 'first prompt of the fork scenario USE_TOOL'; S=$(sid fork); sleep 1; cxx fork exec fork $S 'a prompt in the fork'; keep fork; }
want model2 && { cx model2 exec -m gpt-5 'hello from model one'; S=$(sid model2); cx model2 exec resume $S -m gpt-5-codex 'hello from model two'; keep model2; }
want killed && { conf killed; run_killed $W/stub/requests.jsonl 3 $(E killed) $BIN exec 'SLOW story, gets killed'; cp -a $W/killed/.codex/sessions $OUT/_trace/killed-before-resume; cx killed exec resume --last 'after the kill'; keep killed; }
want weird && { cx weird exec $'WEIRD please \xe2\x80\xa8 with CR\rLF\r\n and "quotes" \\ \xf0\x9f\x98\x80' >/dev/null; cxx weird exec 'BIG=3000000 please' >/dev/null; cx weird exec 'THINK please'; keep weird; }
want write && { cx write exec 'WRITE_FILE please'; keep write; }
want lines && { cx lines exec 'LINES=30000 please'; keep lines; }
want image && { picture $R/pic.png; cx image exec -i $R/pic.png -- 'what is in the picture'; keep image; }
want errors && { cx errors exec 'ERR400 please'; T=60 cx errors exec 'ERR500 please'; T=60 cx errors exec 'DROP please'; keep errors; }
want ephemeral && { cx ephemeral exec --ephemeral 'not persisted'; keep ephemeral; find $W/ephemeral/.codex -name '*.jsonl'; }
want home && { mkdir -p $W/home/other; conf home; cp $W/home/.codex/config.toml $W/home/other/; EXTRA_ENV="CODEX_HOME=$W/home/other" cx home exec 'CODEX_HOME elsewhere'; mkdir -p $OUT/home; find $W/home -name 'rollout*'; snap $W/home $OUT/home other/sessions; }
want subagent && { cx subagent exec 'USE_SUBAGENT please'; keep subagent; }
want archive && { cx archive exec 'to be archived'; S=$(sid archive); cp -a $W/archive/.codex/sessions $OUT/_trace/archive-before; timeout 60 $STRACE -o $OUT/_trace/archive.strace $(E archive) $BIN archive $S </dev/null 2>&1 | tail -2; keep archive; timeout 60 $(E archive) $BIN unarchive $S </dev/null 2>&1 | tail -2; find $W/archive/.codex -name 'rollout*'; cx archive exec 'to be deleted'; S=$(sid archive); timeout 60 $(E archive) $BIN delete --help 2>/dev/null | grep -E '^\s+-' | head; timeout 60 $(E archive) $BIN delete $S --force </dev/null 2>&1 | tail -2; find $W/archive/.codex -name 'rollout*'; }
want compress && { cx compress exec 'old session to be compressed'; for f in $(find $W/compress/.codex/sessions -name 'rollout*'); do touch -d '40 days ago' $f; done
  timeout 60 $STRACE -o $OUT/_trace/compress.strace $(E compress) $BIN exec --enable local_thread_store_compression 'new session; SLOW' </dev/null 2>/dev/null | cut -c1-100 | tail -1; keep compress; find $W/compress/.codex/sessions -type f; }
want interactive && { H=$W/interactive; conf interactive; S="tmux -L lab-codex-$$"
  $S new-session -d -s c -x 160 -y 50 "cd $R && $STRACE -o $OUT/_trace/interactive.strace $(E interactive) $BIN; sleep 1"
  shot() { echo "===== $1" >> $OUT/_trace/interactive.screen; $S capture-pane -p -t c >> $OUT/_trace/interactive.screen; rm -rf $OUT/_trace/int-$1; mkdir -p $OUT/_trace/int-$1; cp -a $H/.codex/sessions $OUT/_trace/int-$1/ 2>/dev/null; cp -a $H/.codex/history.jsonl $H/.codex/session_index.jsonl $OUT/_trace/int-$1/ 2>/dev/null; }
  choose() { ! $S capture-pane -p -t c | grep -q 'conversation run?' || { $S send-keys -t c Enter; sleep 3; settled "$S"; }; }
  say() { $S send-keys -t c -l "$1"; sleep 0.8; $S send-keys -t c Enter; sleep ${2:-5}; settled "$S"; shot $3; }
  : > $OUT/_trace/interactive.screen; sleep 8; settled "$S"; shot 0started; say 'hello interactive USE_TOOL' 6 1first; say 'second turn' 4 2second; say '/rename my renamed session' 4 3renamed; say '/compact' 7 4compacted; say 'after compact' 5 5aftercompact; say '/fork' 5 6forked; choose; say 'in the fork' 5 7infork; say '/new' 4 8new; choose; say 'after new' 5 9afternew
  $S send-keys -t c Escape; sleep 0.5; $S send-keys -t c Escape; sleep 1; shot 10esc; $S send-keys -t c Escape; sleep 0.5; say '/quit' 3 11quit
  tmux_stop "$S"; keep interactive; }
end_under $W; [ -z "${LABHOME:-}" ] || end_under "$(realpath "$LABHOME")"; cp $W/stub/requests.jsonl $OUT/_trace/requests-$(date +%s).jsonl; stop_stub; echo "work dir: $W"
