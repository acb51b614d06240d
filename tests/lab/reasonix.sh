#!/bin/bash
# Reasonix (npm reasonix, a program for each platform): bash reasonix.sh OUTDIR [VERSION]
. $(dirname $0)/lib.sh
V=${2:-1.38.11}; PK=$LAB/reasonix-$V/pkg; npm_inst $PK reasonix@$V; B=$PK/node_modules/.bin/reasonix
lab_begin reasonix $1; HOME=$H $B --version 2>&1 | tail -1 | tee $OUT/VERSION
mkdir -p $H/.reasonix; export STUB_KEY=stub
{ printf 'default_model = "stub"\n'
for n in "" 2; do printf '[[providers]]\nname = "stub%s"\nkind = "openai"\nbase_url = "%s"\nmodel = "stub-model%s"\napi_key_env = "STUB_KEY"\n' "$n" $BASE "${n:+-$n}"; done; } >$H/.reasonix/config.toml
S=".reasonix"; P="-p --permission-mode danger-full-access"
tr_run plain 60 $B $P "Say hello plainly"; snap 1-plain $S
tr_run tool 60 $B $P "USE_TOOL please run echo"; snap 2-tool $S
tr_run resume 60 $B run --model stub2 --continue "And again, resumed"; snap 3-resume $S
kill9_run kill9 2 $B $P "SLOW_kill9 SLOW tell a long story"; snap 4-kill9 $S
run after 60 $B run --continue "After the crash"; snap 5-after-crash $S
run write 60 $B $P "WRITE_FILE please"
run lines 90 $B $P "LINES=30000 please"
run big 90 $B $P "BIG=300000 please"; snap 6-more $S
cp -r $TR $OUT/trace; lab_end
