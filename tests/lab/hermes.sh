#!/bin/bash
# Hermes Agent (PyPI hermes-agent): bash hermes.sh OUTDIR
. $(dirname $0)/lib.sh
uv_inst $LAB/hermes-${2:-0.19.0} python3 hermes-agent==${2:-0.19.0}; B=$LAB/hermes-${2:-0.19.0}/bin/hermes
lab_begin hermes $1; HOME=$H $B --version 2>&1 | head -1 | tee $OUT/VERSION
mkdir -p $H/.hermes
cat >$H/.hermes/config.yaml <<J
model:
  default: stub-model
  provider: custom
  base_url: $BASE
  api_key: stub
J
export OPENAI_API_KEY=stub OPENAI_BASE_URL=$BASE
S=".hermes/state.db .hermes/state.db-wal .hermes/sessions"; P="chat -Q --yolo"
tr_run plain 120 $B $P -q "Say hello plainly"; snap 1-plain $S
tr_run tool 120 $B $P -q "USE_TOOL please run echo"; snap 2-tool $S
ID=$(sed -n 's/.*session_id: *//p' $TR/tool.out | head -1); echo "id $ID"
tr_run resume 120 $B $P -m stub-model-2 --resume $ID -q "And again, resumed"; snap 3-resume $S
tr_run subagent 120 $B $P -q 'TOOL=delegate_task{"goal":"Say hi"} please'; snap 4-subagent $S
kill9_run kill9 2 $B $P -q "SLOW_kill9 SLOW tell a long story"; snap 5-kill9 $S
run after 120 $B $P --continue -q "After the crash"; snap 6-after-crash $S
run write 120 $B $P -q "WRITE_FILE please"
run lines 120 $B $P -q "LINES=30000 please"
cat >$W/i.sh <<J
cd $REPO; export HOME=$H; exec $B chat --cli --yolo
J
TM="tmux -L labb-hermes-$$"; $TM new-session -d -x 160 -y 50 -s s "bash $W/i.sh"
shown() { for i in $(seq 120); do [ "$($TM capture-pane -p -t s 2>/dev/null | grep -c -- "$1")" -ge ${2:-1} ] && break; sleep 0.5; done; sleep 2; }
k() { $TM send-keys -t s C-u; $TM send-keys -t s -l "$1"; sleep 1; $TM send-keys -t s Enter; [ -z "${2:-}" ] || shown "$2"; }
shown '❯'; k "Interactive hello" "You said: Interactive"; k "And on" "You said: And on"; snap 7-interactive-open $S; k "/undo" "Approve Once"; $TM send-keys -t s Enter; shown "Undid 1"; $TM capture-pane -p -t s >$TR/screen1.txt
k "/branch" "ranched"; k "In the branch" "You said: In the"; $TM capture-pane -p -t s >$TR/screen2.txt; snap 8-branch $S
k "/quit"; sleep 5; snap 9-interactive-quit $S; echo "[$T] interactive typed"; $TM kill-server 2>/dev/null
cp -r $TR $OUT/trace; lab_end
