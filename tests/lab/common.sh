# sourced by the drivers; needs: bash, git, strace, inotifywait, python3, npm
LAB=${LAB:-$HOME/.cache/sessiond-lab}; DRV=$(cd "$(dirname "${BASH_SOURCE[0]}")"; pwd); mkdir -p "$LAB"
set -u
# picture FILE: a picture of one pixel
picture() { base64 -d >"$1" <<<iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==; }
# settled "tmux -L NAME": waits until the screen has not changed for two seconds, half a minute at most
settled() { local was='' now same=0 i; for i in $(seq 60); do sleep 0.5; now=$($1 capture-pane -p 2>/dev/null); if [ "$now" = "$was" ]; then same=$((same+1)); else same=0; fi; was=$now; [ $same -ge 4 ] && return; done; }
# shows "tmux -L NAME" TEXT: waits until the screen has a text, two minutes at most
shows() { local i; for i in $(seq 240); do $1 capture-pane -p 2>/dev/null | grep -qF "$2" && return; sleep 0.5; done; }
start_stub() { # start_stub WORKDIR ; sets PORT, STUB_PID
  mkdir -p "$1/stub"; rm -f "$1/stub/port"
  STUB_CWD=${STUB_CWD:-} setsid python3 $DRV/stub.py 0 --log "$1/stub/requests.jsonl" --bodies "$1/stub/bodies" --portfile "$1/stub/port" >"$1/stub/out" 2>&1 &
  STUB_PID=$!
  for _ in $(seq 100); do [ -s "$1/stub/port" ] && break; sleep 0.1; done
  PORT=$(cat "$1/stub/port"); STUB_PID=$(awk '{print $4; exit}' "$1/stub/out")
  trap 'stop_stub' EXIT
}
one_home() { # one_home WORKDIR ; with LABHOME set, it is the HOME of every scenario, so that one daemon can watch them all
  [ -n "${LABHOME:-}" ] || return 0; mkdir -p "$LABHOME"
  for s in plain tool resume fork model2 subagent killed weird errors sessionid streamjson cwd interactive archive lines write image compress thinking; do ln -sfn "$LABHOME" "$1/$s"; done
}
stop_stub() { [ -n "${STUB_PID:-}" ] && kill "$STUB_PID" 2>/dev/null; STUB_PID=; }
mkrepo() { # mkrepo DIR
  mkdir -p "$1"; echo "repository: $1"; ( cd "$1"; [ -d .git ] || { git init -q -b lab-branch; echo '# lab repo' > README.md; git add .; git -c user.name=lab -c user.email=lab@example.invalid commit -qm init; git remote add origin https://example.invalid/lab/repo.git; } )
}
# node >= 22 for tools that need it
node22() { [ -x $LAB/node22/node_modules/.bin/node ] || npm install --prefix $LAB/node22 --no-audit --no-fund --loglevel=error node@22; PATH22=$LAB/node22/node_modules/.bin:$PATH; }
npm_install() { # npm_install DIR SPEC BIN (ends the script if it can't be installed)
  [ -x "$1/node_modules/.bin/$3" ] || { mkdir -p "$1"; npm install --prefix "$1" --no-audit --no-fund --loglevel=error "$2"; }
  [ -x "$1/node_modules/.bin/$3" ] || { echo "can't install $2"; exit 1; }
}
watch_start() { # watch_start HOME LOG
  mkdir -p "$1"
  inotifywait -q -m -r --timefmt '%H:%M:%S' --format '%T %e %w%f' "$1" > "$2" 2>/dev/null &
  WATCH_PID=$!; sleep 0.4
}
watch_stop() { kill "$WATCH_PID" 2>/dev/null; wait "$WATCH_PID" 2>/dev/null; }
STRACE="strace -f -ttt -y -s 64 -e trace=openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,rename,renameat,renameat2,ftruncate,truncate,fsync,fdatasync,unlink,unlinkat,link,linkat,mkdir,flock,io_uring_enter,copy_file_range,sendfile"
[ -z "${LABHOME:-}" ] || STRACE=$DRV/untraced.sh # while a daemon watches, nothing else does
snap() { # snap HOME OUTDIR/scenario paths...   copies the named paths (relative to HOME)
  local h=$1 o=$2; shift 2; rm -rf "$o"; mkdir -p "$o"
  for p in "$@"; do [ -e "$h/$p" ] && ( cd "$h" && cp -a --parents "$p" "$o/" ); done
}
# run_killed LOG SECONDS_AFTER_FIRST_SLOW_REQUEST cmd... : runs cmd, waits until the stub has answered a SLOW prompt, then kill -9 of that one pid (and its children by pid)
kids() { local p; for p in $(ps -o pid= --ppid "$1" 2>/dev/null); do kids "$p"; echo "$p"; done; }
run_killed() {
  local log=$1 secs=$2; shift 2
  local before; before=$(grep -c SLOW "$log" 2>/dev/null || true)
  "$@" </dev/null >/dev/null 2>&1 & local pid=$!
  for _ in $(seq 300); do [ "$(grep -c SLOW "$log" 2>/dev/null || true)" -gt "${before:-0}" ] && break; sleep 0.1; done
  sleep "$secs"
  local all; all="$(kids $pid) $pid"
  kill -9 $all 2>/dev/null; wait $pid 2>/dev/null
  echo "killed: $all"
}
# tmux_stop "tmux -L NAME": ends the panes' own process trees by pid, then the private tmux server
tmux_stop() { local t=$1 p; for p in $($t list-panes -a -F '#{pane_pid}' 2>/dev/null); do kill $(kids $p) 2>/dev/null; sleep 0.5; kill -9 $(kids $p) 2>/dev/null; done; $t kill-server 2>/dev/null; }
# end_under DIR: ends processes whose executable lies under DIR (tools that leave a daemon behind, e.g. codex app-server-daemon), by pid
end_under() { local e p; for e in /proc/[0-9]*/exe; do case "$(readlink "$e" 2>/dev/null)" in "$1"/*) p=${e#/proc/}; kill "${p%/exe}" 2>/dev/null;; esac; done; sleep 1; for e in /proc/[0-9]*/exe; do case "$(readlink "$e" 2>/dev/null)" in "$1"/*) p=${e#/proc/}; kill -9 "${p%/exe}" 2>/dev/null;; esac; done; }
