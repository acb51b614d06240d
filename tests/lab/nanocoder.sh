#!/bin/bash
# Nanocoder (npm @nanocollective/nanocoder): bash nanocoder.sh OUTDIR [VERSION]
. $(dirname $0)/lib.sh
V=${2:-1.30.0}; PK=$LAB/nanocoder-$V/pkg; npm_inst $LAB/node22 node@22; export PATH=$LAB/node22/node_modules/.bin:$PATH
npm_inst $PK @nanocollective/nanocoder@$V; B=$PK/node_modules/.bin/nanocoder
lab_begin nanocoder $1; echo $V | tee $OUT/VERSION
mkdir -p $H/.config/nanocoder; export NANOCODER_TRUST_DIRECTORY=1
printf '{"nanocoder":{"providers":[{"name":"stub","baseUrl":"%s","apiKey":"stub","models":["stub-model","stub-model-2"]}]}}' $BASE >$H/.config/nanocoder/agents.config.json
S=".local/share/nanocoder"
# without a terminal it saves nothing
t() { local n=$1; shift; run $n 60 script -qfec "stty cols 100 rows 30; $B --mode yolo $*" /dev/null; }
t plain "run 'Say hello plainly'"; snap 1-plain $S
t tool "run 'USE_TOOL please run echo'"; snap 2-tool $S
kill9_run kill9 2 script -qfec "stty cols 100 rows 30; $B --mode yolo run 'SLOW_kill9 SLOW tell a long story'" /dev/null; snap 3-kill9 $S
t write "run 'WRITE_FILE please'"
t lines "run 'LINES=30000 please'"; snap 4-more $S
cp -r $TR $OUT/trace; lab_end
