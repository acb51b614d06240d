#!/bin/bash
# bash claude-code.sh OUTDIR [VERSION]   -> real Claude Code sessions in OUTDIR/<scenario>/..., traces in OUTDIR/_trace
. "$(dirname "$0")/common.sh"
OUT=${1:?OUTDIR}; VER=${2:-2.1.330}; mkdir -p "$OUT/_trace"; OUT=$(cd "$OUT"; pwd)
node22
I=$LAB/claude-code-$VER
PATH=$PATH22 npm_install $I @anthropic-ai/claude-code@$VER claude
BIN=$I/node_modules/.bin/claude
W=$(mktemp -d $LAB/run-claude.XXXXXX); one_home $W; R=$W/repo; mkrepo $R; STUB_CWD=$R start_stub $W
cd $R
# old versions send even the base URL through the proxy, so they get none
case $VER in 2.1.*) PX="HTTPS_PROXY=http://127.0.0.1:$PORT NO_PROXY=127.0.0.1,localhost";; *) PX="CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1";; esac
T=120
cl() { local h=$W/$1; shift; mkdir -p $h; timeout $T env -i HOME=$h PATH=$PATH22 LANG=C.UTF-8 TERM=xterm-256color ANTHROPIC_BASE_URL=http://127.0.0.1:$PORT ANTHROPIC_API_KEY=sk-ant-dummy-lab $PX ${EXTRA_ENV:-} $BIN "$@" </dev/null; }
clx() { local n=$1; shift; mkdir -p $W/$n; local tr=$OUT/_trace/$n.strace; [ -e $tr ] && tr=$OUT/_trace/$n.$(date +%s).strace
  timeout $T $STRACE -o $tr env -i HOME=$W/$n PATH=$PATH22 LANG=C.UTF-8 TERM=xterm-256color ANTHROPIC_BASE_URL=http://127.0.0.1:$PORT ANTHROPIC_API_KEY=sk-ant-dummy-lab $PX ${EXTRA_ENV:-} $BIN "$@" </dev/null; }
sid() { ls -t $W/$1/.claude/projects/*/*.jsonl 2>/dev/null | head -1 | xargs -r basename | sed 's/.jsonl//'; }
keep() { snap $W/$1 $OUT/$1 .claude .claude.json; echo "$VERS" > $OUT/$1/VERSION; echo "--- $1"; (cd $OUT/$1; find . -path '*projects*' -name '*.json*' | xargs -r wc -cl | head -12); }
AT="--allowedTools Bash,Read,Write,Task,Agent"
VERS=$(cl _v --version); echo "$VERS"; echo "$VERS" > $OUT/VERSION
want() { [ -z "${ONLY:-}" ] || [[ " $ONLY " == *" $1 "* ]]; }

want plain && { clx plain -p 'hello plain' ; keep plain; }
want tool && { clx tool -p 'please USE_TOOL now' $AT; cl tool -p 'TWO_TOOLS please' $AT; cl tool -p 'READ_FILE please' $AT; cl tool -p 'WRITE_FILE please' $AT; keep tool; }
want resume && { cl resume -p 'first prompt of the resume scenario'; S=$(sid resume); cp -a $W/resume/.claude/projects $OUT/_trace/resume-before 2>/dev/null
  clx resume -c -p 'second prompt, by --continue USE_TOOL' $AT; cp -a $W/resume/.claude/projects $OUT/_trace/resume-after-continue
  cl resume --resume $S -p 'third prompt, by --resume id'; keep resume; }
want fork && { cl fork -p 'first prompt of the fork scenario USE_TOOL' $AT; S=$(sid fork); sleep 1; clx fork --resume $S --fork-session -p 'a prompt in the forked session'; keep fork; }
want model2 && { cl model2 --model claude-sonnet-4-5 -p 'hello from model one'; S=$(sid model2); cl model2 --resume $S --model claude-haiku-4-5 -p 'hello from model two'; keep model2; }
want subagent && { clx subagent -p 'please USE_SUBAGENT now' $AT; keep subagent; }
want killed && { export -f cl; run_killed $W/stub/requests.jsonl 3 env -i HOME=$W/killed PATH=$PATH22 LANG=C.UTF-8 TERM=xterm ANTHROPIC_BASE_URL=http://127.0.0.1:$PORT ANTHROPIC_API_KEY=sk-ant-dummy-lab $PX $BIN -p 'SLOW story please, it gets killed'
  cp -a $W/killed/.claude $OUT/_trace/killed-before-resume; cl killed -c -p 'after the kill'; keep killed; }
want weird && { cl weird -p $'WEIRD please \xe2\x80\xa8 with CR\rLF\r\n and "quotes" \\ and emoji \xf0\x9f\x98\x80'; clx weird -p 'BIG=3000000 please'; keep weird; }
want lines && { clx lines -p 'LINES=30000 please' $AT; keep lines; }
want errors && { EXTRA_ENV="CLAUDE_CODE_MAX_RETRIES=1" cl errors -p 'ERR400 please'; T=40 EXTRA_ENV="CLAUDE_CODE_MAX_RETRIES=1" cl errors -p 'ERR500 please'; T=40 EXTRA_ENV="CLAUDE_CODE_MAX_RETRIES=1" cl errors -p 'DROP please'; keep errors; }
want sessionid && { cl sessionid --session-id 11111111-2222-4333-8444-555555555555 -p 'own session id'; cl sessionid --no-session-persistence -p 'not persisted'; cl sessionid --name 'my name' -p 'a named session'; keep sessionid; }
want configdir && { EXTRA_ENV="CLAUDE_CONFIG_DIR=$W/configdir/other" cl configdir -p 'other config dir'; snap $W/configdir $OUT/configdir other .claude .claude.json; find $OUT/configdir -name '*.jsonl'; }
want streamjson && { mkdir -p $W/streamjson; (for i in 1 2 3; do printf '{"type":"user","message":{"role":"user","content":"stream turn %s"}}\n' $i; sleep 2; done) | timeout $T env -i HOME=$W/streamjson PATH=$PATH22 LANG=C.UTF-8 ANTHROPIC_BASE_URL=http://127.0.0.1:$PORT ANTHROPIC_API_KEY=sk-ant-dummy-lab $BIN -p --input-format stream-json --output-format stream-json --verbose >$OUT/_trace/streamjson.out 2>&1; keep streamjson; }
want cwd && { mkdir -p "$W/dir with space/ünïcode_dir.v1"; (cd "$W/dir with space/ünïcode_dir.v1"; cl cwd -p 'odd cwd, not a git repo'); keep cwd; }
want retention && { cl retention -p 'old session, will be aged'; P=$(ls -d $W/retention/.claude/projects/*); cp $P/*.jsonl $P/aaaaaaaa-0000-4000-8000-000000000031.jsonl; cp $P/*31.jsonl $P/aaaaaaaa-0000-4000-8000-000000000029.jsonl
  touch -d '31 days ago' $P/*31.jsonl; touch -d '29 days ago' $P/*29.jsonl; ls -la --time-style=full-iso $P > $OUT/_trace/retention-before.txt; clx retention -p 'new session'; sleep 1; ls -la --time-style=full-iso $P > $OUT/_trace/retention-after.txt; cat $OUT/_trace/retention-*.txt; keep retention; }
# ---- interactive in tmux
want interactive && { H=$W/interactive; mkdir -p $H/.claude; S="tmux -L lab-claude-$$"
  K=$(printf %s sk-ant-dummy-lab | tail -c 20)
  echo "{\"hasCompletedOnboarding\":true,\"theme\":\"dark\",\"lastOnboardingVersion\":\"9.9.9\",\"customApiKeyResponses\":{\"approved\":[\"$K\"],\"rejected\":[]},\"projects\":{\"$R\":{\"hasTrustDialogAccepted\":true,\"allowedTools\":[]}}}" > $H/.claude.json
  INT="env -i HOME=$H PATH=$PATH22 LANG=C.UTF-8 TERM=xterm-256color ANTHROPIC_BASE_URL=http://127.0.0.1:$PORT ANTHROPIC_API_KEY=sk-ant-dummy-lab $PX $BIN $AT"
  $S new-session -d -s c -x 160 -y 50 "cd $R && $STRACE -o $OUT/_trace/interactive.strace $INT; sleep 1"
  say() { $S send-keys -t c -l "$1"; sleep 0.7; $S send-keys -t c Enter; sleep ${2:-5}; settled "$S"; $S capture-pane -p -t c >> $OUT/_trace/interactive.screen; echo "=====" >> $OUT/_trace/interactive.screen; cp -a $H/.claude/projects $OUT/_trace/int-$((N=${N:-0}+1))-$3 2>/dev/null; }
  sleep 7; settled "$S"; $S capture-pane -p -t c > $OUT/_trace/interactive.screen; ls -laR $H/.claude/projects $H/.claude/sessions > $OUT/_trace/int-0-started.txt 2>&1
  say 'hello interactive USE_TOOL' 7 first; say 'second turn THINK' 5 second; say 'WRITE_FILE please' 7 written; picture $R/pic.png; $S set-buffer "$R/pic.png"; $S paste-buffer -p -t c; sleep 2; say ' what is in the picture' 6 pasted; say '/rename my renamed session' 4 renamed; say '/compact' 9 compacted; say 'after compact' 5 aftercompact; say '/branch' 5 branched; say 'in the branch' 5 inbranch; say '/clear' 4 cleared; say 'after clear' 6 afterclear; say '! echo bash-mode' 4 bashmode; say '/exit' 4 exited
  tmux_stop "$S"; keep interactive; }
cp $W/stub/requests.jsonl $OUT/_trace/requests.jsonl; stop_stub
echo "work dir: $W"
