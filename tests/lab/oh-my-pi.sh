#!/bin/bash
# oh-my-pi (npm @oh-my-pi/pi-coding-agent; runs on bun): bash oh-my-pi.sh OUTDIR
. $(dirname $0)/lib.sh
V=${2:-18.2.3}; PK=$LAB/omp-$V/pkg; npm_inst $PK bun@1.4.5 @oh-my-pi/pi-coding-agent@$V; export PATH=$PK/node_modules/.bin:$PATH; B="bun $PK/node_modules/.bin/omp"
lab_begin oh-my-pi $1; HOME=$H $B --version 2>&1 | tail -1 | tee $OUT/VERSION
mkdir -p $H/.omp/agent
cat >$H/.omp/agent/models.yml <<J
providers:
  stub:
    baseUrl: $BASE
    apiKey: stub
    api: openai-completions
    models:
      - {id: stub-model, name: Stub, reasoning: false, input: [text], cost: {input: 0, output: 0, cacheRead: 0, cacheWrite: 0}, contextWindow: 100000, maxTokens: 4000}
      - {id: stub-model-2, name: Stub2, reasoning: false, input: [text], cost: {input: 0, output: 0, cacheRead: 0, cacheWrite: 0}, contextWindow: 100000, maxTokens: 4000}
J
export PI_OFFLINE=1 PI_TELEMETRY=0 STUB_AGENT=task OMP_SKIP_SETUP=1
S=".omp/agent/sessions"; P="--model stub/stub-model --auto-approve"
tr_run plain 100 $B $P -p "Say hello plainly"; snap 1-plain $S
tr_run tool 100 $B $P -p "USE_TOOL please run echo"; snap 2-tool $S
tr_run resume 100 $B --model stub/stub-model-2 --auto-approve --continue -p "And again, resumed"; snap 3-resume $S
tr_run subagent 100 $B $P -p "USE_SUBAGENT please"; snap 4-subagent $S
kill9_run kill9 2 $B $P -p "SLOW_kill9 SLOW tell a long story"; snap 5-kill9 $S
run after 100 $B $P --continue -p "After the crash"; snap 6-after-crash $S
# interactive: two prompts, a fork, a name, quit, through tmux
cat >$W/i.sh <<J
cd $REPO; export HOME=$H; exec $B $P
J
TM="tmux -L labb-omp-$$"; $TM new-session -d -x 160 -y 50 -s s "bash $W/i.sh"
shown() { for i in $(seq 120); do $TM capture-pane -p -t s 2>/dev/null | grep -q -- "$1" && break; sleep 0.5; done; sleep 2; }
k() { $TM send-keys -t s -l "$1"; sleep 1; $TM send-keys -t s Enter; shown "$2"; }
sleep 15; $TM capture-pane -p -t s >$TR/screen0.txt; k "Interactive hello" "You said: Interactive"; snap 7-interactive-open $S; k "/rename my lab session" "my lab"; k "/fork" "ork"; k "In the fork" "You said: In the"; $TM capture-pane -p -t s >$TR/screen1.txt; snap 8-fork $S
k "/quit"; sleep 5; snap 9-interactive-quit $S; echo "[$T] interactive typed"; $TM kill-server 2>/dev/null
cp -r $TR $OUT/trace; lab_end
