# Cline CLI (npm cline), which continues a session only in a terminal. It leaves a hub daemon behind, which restore.sh ends.
. "$DRV/lib.sh"; SUBAGENTS=yes; VER=3.0.65; npm_inst $LAB/cline-$VER/pkg cline@$VER; BIN=$LAB/cline-$VER/pkg/node_modules/.bin; ENVS="CLINE_TELEMETRY_DISABLED=1 DO_NOT_TRACK=1"
auth() { on $1 cline auth -p openai-compatible -k stub -m stub-model -b http://127.0.0.1:$PORT/v1; }
hub() { local p; for p in $(ps -eo pid,args | grep -F -- "--cline-hub-daemon --cwd $W/" | grep -v grep | awk '{print $1}'); do kill $p; done; }
begin() { auth m1; on m1 cline --auto-approve true "LABPROMPT $WORD please run echo"; hub; }
resume() { auth m2; local t="tmux -L restore-cline-$$"
  $t new-session -d -x 160 -y 50 -s s "cd $P2; exec env -i HOME=$W/m2 PATH=$BIN:$PATH22 LANG=C.UTF-8 TERM=xterm-256color HTTPS_PROXY=http://127.0.0.1:$PORT NO_PROXY=127.0.0.1,localhost $ENVS cline -i --id $1"
  for i in $(seq 600); do $t capture-pane -p | grep -q LABPROMPT && break; sleep 0.5; done; settled "$t"; $t send-keys -l LABSECOND; sleep 1; $t send-keys Enter
  for i in $(seq 600); do grep -lq LABSECOND -r "$W/stub/bodies" && break; sleep 0.5; done; settled "$t"; $t capture-pane -p; tmux_stop "$t"; hub; }
