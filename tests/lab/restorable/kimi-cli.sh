# Kimi CLI (PyPI kimi-cli), the predecessor of Kimi Code; 1.50 and later refuse to run
. "$DRV/lib.sh"; SUBAGENTS=yes; VER=1.49.0; uv_inst $LAB/kimi-$VER/venv ${PY313:-$HOME/.pyenv/versions/3.13.0/bin/python} kimi-cli==$VER; BIN=$LAB/kimi-$VER/venv/bin; ENVS="KIMI_CLI_NO_AUTO_UPDATE=1 ${LAB_ENVS:-}"
for m in m1 m2; do mkdir -p "$W/$m/.kimi"; printf 'default_model = "stub"\ntelemetry = false\n[providers.stub]\ntype = "openai_legacy"\nbase_url = "http://127.0.0.1:%s/v1"\napi_key = "stub"\n[models.stub]\nprovider = "stub"\nmodel = "stub-model"\nmax_context_size = 100000\n' "$PORT" >"$W/$m/.kimi/config.toml"; done
begin() { on m1 kimi --print -y -p "LABPROMPT $WORD please run echo"; }; resume() { on m2 kimi --print -y -r "$1" -p 'LABSECOND'; }
