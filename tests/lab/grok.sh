#!/bin/bash
# Grok Build (npm @xai-official/grok): bash grok.sh OUTDIR
. $(dirname $0)/lib.sh
V=${2:-1.0.41}; PK=$LAB/grok-$V/pkg; npm_inst $PK @xai-official/grok-linux-x64@$V; B=$LAB/grok-$V/grok-$V
[ -x $B ] || node -e 'const z=require("zlib"),fs=require("fs");fs.writeFileSync(process.argv[2],z.brotliDecompressSync(fs.readFileSync(process.argv[1])),{mode:0o755})' $PK/node_modules/@xai-official/grok-linux-x64/bin/grok.br $B
lab_begin grok $1; HOME=$H $B --version 2>&1 | tail -1 | tee $OUT/VERSION
mkdir -p $H/.grok
{ printf '[cli]\nauto_update = false\n[models]\ndefault = "stub-model"\n'
for m in stub-model stub-model-2; do printf '[model.%s]\nmodel = "%s"\nname = "%s"\nbase_url = "%s"\napi_key = "stub"\napi_backend = "chat_completions"\ncontext_window = 100000\n' $m $m $m $BASE; done; } >$H/.grok/config.toml
export XAI_API_KEY=stub GROK_DISABLE_AUTOUPDATER=1 GROK_TELEMETRY_ENABLED=0
S=".grok/sessions"; P="-m stub-model --always-approve"
tr_run plain 90 $B $P -p "Say hello plainly"; snap 1-plain $S
tr_run tool 90 $B $P -p "USE_TOOL please run echo"; snap 2-tool $S
ID=$(basename $(ls -td $H/.grok/sessions/*/*/ | head -1)); echo "id $ID"
tr_run resume 90 $B -m stub-model-2 --always-approve --resume $ID -p "And again, resumed"; snap 3-resume $S
tr_run fork 90 $B $P --resume $ID --fork-session -p "Forked prompt"; snap 4-fork $S
tr_run subagent 90 $B $P -p 'TOOL=spawn_subagent{"prompt":"Say hi","description":"hi","background":false}'; snap 5-subagent $S
kill9_run kill9 2 $B $P -p "SLOW_kill9 SLOW tell a long story"; snap 6-kill9 $S
run after 150 $B $P --continue -p "After the crash"; snap 7-after-crash $S
run write 90 $B $P -p "WRITE_FILE please"
run lines 90 $B $P -p "LINES=30000 please"
cp -r $TR $OUT/trace; lab_end
