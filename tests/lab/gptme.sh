#!/bin/bash
# gptme (PyPI gptme), with calls of tools in the API's form: bash gptme.sh OUTDIR [VERSION]
. $(dirname $0)/lib.sh
V=${2:-0.35.1}; uv_inst $LAB/gptme-$V/venv ${PY313:-$HOME/.pyenv/versions/3.13.0/bin/python} gptme==$V; B=$LAB/gptme-$V/venv/bin/gptme
lab_begin gptme $1; HOME=$H $B --version 2>&1 | head -1 | tee $OUT/VERSION
unset PYTEST_CURRENT_TEST # with it, gptme asks nobody and ends
export OPENAI_BASE_URL=$BASE OPENAI_API_KEY=stub GPTME_CHECK=false
S=.local/share/gptme
P="-m local/stub-model --tool-format tool --no-stream"
tr_run plain 120 $B $P -n --name lab-plain "Say hello plainly"; snap 1-plain $S
tr_run tool 120 $B $P -n --name lab-tool "USE_TOOL please run echo"; snap 2-tool $S
tr_run resume 120 $B $P -n --name lab-tool "And again, resumed"; snap 3-resume $S
kill9_run kill9 2 $B $P -n --name lab-killed "SLOW_kill9 SLOW tell a long story"; snap 4-kill9 $S
run after 120 $B $P -n --name lab-killed "After the crash"; snap 5-after-crash $S
run write 120 $B $P -n --name lab-write "WRITE_FILE please"
run lines 120 $B $P -n --name lab-lines "LINES=30000 please"
picture $REPO/pic.png; run image 120 $B $P -n --name lab-image "What is in the picture" pic.png
TM="tmux -L labb-gptme-$$"; $TM new-session -d -x 160 -y 50 -s s "cd $REPO; HOME=$H $B $P --name lab-interactive"; for i in $(seq 240); do $TM capture-pane -p -t s | grep -q "^User" && break; sleep 0.5; done; settled "$TM"
k() { $TM send-keys -t s -l "$1"; sleep 0.3; $TM send-keys -t s Enter; [ -z "${2:-}" ] || shows "$TM" "$2"; settled "$TM"; }
k "Interactive hello" "You said: Interactive"; k "/rename my lab title"; k "Second turn" "You said: Second"; k "/undo"; k "After undo" "You said: After"; $TM capture-pane -p -t s >$TR/screen.txt; k "/exit"; $TM kill-server 2>/dev/null; snap 6-interactive $S; echo "[$T] interactive typed"
cp -r $TR $OUT/trace; lab_end
