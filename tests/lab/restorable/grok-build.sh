# Grok Build (npm @xai-official/grok): the npm package has the binary compressed
. "$DRV/lib.sh"; SUBAGENTS=yes; VER=1.0.41; npm_inst $LAB/grok-$VER/pkg @xai-official/grok-linux-x64@$VER; BIN=$LAB/grok-$VER/bin; mkdir -p $BIN
[ -x $BIN/grok ] || PATH=$PATH22 node -e 'const z=require("zlib"),fs=require("fs");fs.writeFileSync(process.argv[2],z.brotliDecompressSync(fs.readFileSync(process.argv[1])),{mode:0o755})' $LAB/grok-$VER/pkg/node_modules/@xai-official/grok-linux-x64/bin/grok.br $BIN/grok
ENVS="XAI_API_KEY=stub GROK_DISABLE_AUTOUPDATER=1 GROK_TELEMETRY_ENABLED=0"
for m in m1 m2; do mkdir -p "$W/$m/.grok"; printf '[cli]\nauto_update = false\n[models]\ndefault = "stub-model"\n[model.stub-model]\nmodel = "stub-model"\nname = "stub-model"\nbase_url = "http://127.0.0.1:%s/v1"\napi_key = "stub"\napi_backend = "chat_completions"\ncontext_window = 100000\n' "$PORT" >"$W/$m/.grok/config.toml"; done
O="-m stub-model --always-approve"
begin() { on m1 grok $O -p "LABPROMPT $WORD please run echo"; }; fork() { on m1 grok $O --resume "$1" --fork-session -p 'LABFORK'; }; resume() { on m2 grok $O --resume "$1" -p 'LABSECOND'; }
