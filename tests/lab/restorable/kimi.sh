# Kimi Code (npm @moonshot-ai/kimi-code), the successor of Kimi CLI
. "$DRV/lib.sh"; VER=2.1.0; npm_inst $LAB/kimi-code-$VER/pkg @moonshot-ai/kimi-code@$VER; BIN=$LAB/kimi-code-$VER/pkg/node_modules/.bin; ENVS="KIMI_CLI_NO_AUTO_UPDATE=1 KIMI_CODE_NO_AUTO_UPDATE=1"
for m in m1 m2; do mkdir -p "$W/$m/.kimi-code"; printf 'default_model = "stub"\ntelemetry = false\n[providers.stub]\ntype = "openai"\nbase_url = "http://127.0.0.1:%s/v1"\napi_key = "stub"\n[models.stub]\nprovider = "stub"\nmodel = "stub-model"\nmax_context_size = 100000\n' "$PORT" >"$W/$m/.kimi-code/config.toml"; done
begin() { on m1 kimi -p "LABPROMPT $WORD please run echo"; }; resume() { on m2 kimi -S "$1" -p 'LABSECOND'; }
