#!/bin/bash
# Kimi Code (npm @moonshot-ai/kimi-code), the successor of Kimi CLI: bash kimi-code.sh OUTDIR [VERSION]
. $(dirname $0)/lib.sh
V=${2:-2.1.0}; npm_inst $LAB/node22 node@22; export PATH=$LAB/node22/node_modules/.bin:$PATH
PK=$LAB/kimi-code-$V/pkg; npm_inst $PK @moonshot-ai/kimi-code@$V; B=$PK/node_modules/.bin/kimi
lab_begin kimi-code $1; HOME=$H $B --version | tee $OUT/VERSION
mkdir -p $H/.kimi-code
cat >$H/.kimi-code/config.toml <<J
default_model = "stub"
telemetry = false
[providers.stub]
type = "openai"
base_url = "$BASE"
api_key = "stub"
[models.stub]
provider = "stub"
model = "stub-model"
max_context_size = 100000
[models.stub2]
provider = "stub"
model = "stub-model-2"
max_context_size = 100000
J
export KIMI_CLI_NO_AUTO_UPDATE=1 KIMI_CODE_NO_AUTO_UPDATE=1 STUB_AGENT=coder
S=".kimi-code"
run plain 90 $B -p "Say hello plainly"; snap 1-plain $S
run tool 90 $B -p "USE_TOOL please run echo"; snap 2-tool $S
run resume 90 $B -c -m stub2 -p "And again, resumed"; snap 3-resume $S
ID=$(ls -t $H/.kimi-code/sessions/*/*/agents/main/wire.jsonl 2>/dev/null | head -1 | xargs -r dirname | xargs -r dirname | xargs -r dirname | xargs -r basename)
run fork 90 $B fork $ID; snap 4-fork $S
run subagent 90 $B -p "USE_SUBAGENT please"; snap 5-subagent $S
kill9_run kill9 2 $B -p "SLOW_kill9 SLOW tell a long story"; snap 6-kill9 $S
run after 90 $B -c -p "After the crash"
run write 90 $B -p "WRITE_FILE please"
run lines 90 $B -p "LINES=30000 please"; snap 7-more $S
want interactive && {
cat >$W/i.sh <<J
cd $REPO; export HOME=$H; exec $B -y
J
TM="tmux -L labb-kimi-$$"; $TM new-session -d -x 160 -y 50 -s s "bash $W/i.sh"; for i in $(seq 60); do $TM capture-pane -p -t s | grep -q "context:" && break; sleep 1; done; settled "$TM"
k() { $TM send-keys -t s -l "$1"; sleep 0.7; $TM send-keys -t s Enter; sleep ${2:-3}; settled "$TM"; }
k "Interactive hello" 5; k "USE_TOOL again" 5; k "/compact" 6; k "After compaction" 5; k "/clear" 3; k "After clear" 4; $TM capture-pane -p -t s >$TR/screen.txt; snap 8-interactive-open $S; k "/exit" 4; $TM kill-server 2>/dev/null; snap 9-interactive-exit $S; echo "[$T] interactive typed"; }
cp -r $TR $OUT/trace; lab_end
