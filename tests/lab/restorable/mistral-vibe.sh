# Mistral Vibe (PyPI mistral-vibe), whose 3.0.2 offers the model no tool that starts a subagent
. "$DRV/lib.sh"; VER=3.0.2; uv_inst $LAB/vibe-$VER/venv ${PY312:-$HOME/.pyenv/versions/3.12.1/bin/python} mistral-vibe==$VER; BIN=$LAB/vibe-$VER/venv/bin; ENVS="STUB_KEY=stub"
for m in m1 m2; do mkdir -p "$W/$m/.vibe"; printf 'active_model = "stub"\nenable_telemetry = false\nenable_update_checks = false\nenable_auto_update = false\n[[providers]]\nname = "stub"\napi_base = "http://127.0.0.1:%s/v1"\napi_key_env_var = "STUB_KEY"\napi_style = "openai"\nbackend = "generic"\n[[models]]\nname = "stub-model"\nprovider = "stub"\nalias = "stub"\ntemperature = 0.2\n' "$PORT" >"$W/$m/.vibe/config.toml"; done
O="--trust --auto-approve"
begin() { on m1 vibe $O -p "LABPROMPT $WORD please run echo"; }; resume() { on m2 vibe $O --resume "$1" -p 'LABSECOND'; }
