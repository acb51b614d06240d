#!/bin/bash
# llm (PyPI llm), with a model of the stub and a tool in Python: bash llm.sh OUTDIR [VERSION]
. $(dirname $0)/lib.sh
V=${2:-0.36}; uv_inst $LAB/llm-$V/venv ${PY313:-$HOME/.pyenv/versions/3.13.0/bin/python} llm==$V; B=$LAB/llm-$V/venv/bin/llm
lab_begin llm $1; HOME=$H $B --version 2>&1 | tail -1 | tee $OUT/VERSION
D=.config/io.datasette.llm; mkdir -p $H/$D
for m in stub-model stub-model-2; do printf -- '- model_id: %s\n  model_name: %s\n  api_base: "%s"\n  supports_tools: true\n  vision: true\n' $m $m $BASE; done >$H/$D/extra-openai-models.yaml
cat >$W/tools.py <<'J'
import subprocess


def shell(command: str) -> str:
    """Run a command of the shell."""
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout


def write_file(path: str, content: str) -> str:
    """Write a file."""
    with open(path, "w") as file:
        file.write(content)
    return "written"
J
P="-m stub-model"; F="--functions $W/tools.py"
tr_run plain 60 $B $P "Say hello plainly"; snap 1-plain $D
tr_run tool 60 $B $P $F "USE_TOOL please run echo"; snap 2-tool $D
tr_run resume 60 $B -m stub-model-2 --continue "And again, resumed"; snap 3-resume $D
kill9_run kill9 2 $B $P "SLOW_kill9 SLOW tell a long story"; snap 4-kill9 $D
run after 60 $B $P "After the crash"; snap 5-after-crash $D
run write 60 $B $P $F "WRITE_FILE please"
run lines 60 $B $P $F "LINES=30000 please"
picture $REPO/pic.png; run image 60 $B $P -a pic.png "What is in the picture"
TM="tmux -L labb-llm-$$"; $TM new-session -d -x 160 -y 50 -s s "cd $REPO; HOME=$H $B chat $P"; for i in $(seq 60); do $TM capture-pane -p -t s | grep -q "^> *$" && break; sleep 0.5; done
k() { $TM send-keys -t s -l "$1"; sleep 0.3; $TM send-keys -t s Enter; settled "$TM"; }
k "Interactive hello"; k "Second turn"; $TM capture-pane -p -t s >$TR/screen.txt; k "exit"; $TM kill-server 2>/dev/null; snap 6-interactive $D; echo "[$T] interactive typed"
cp -r $TR $OUT/trace; lab_end
