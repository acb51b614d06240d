# OpenHands CLI (PyPI openhands)
. "$DRV/lib.sh"; VER=1.16.0; uv_inst $LAB/openhands-$VER/venv ${PY312:-$HOME/.pyenv/versions/3.12.1/bin/python} openhands==$VER; BIN=$LAB/openhands-$VER/venv/bin
ENVS="LLM_API_KEY=stub LLM_BASE_URL=http://127.0.0.1:$PORT/v1 LLM_MODEL=openai/stub-model OPENHANDS_SUPPRESS_BANNER=1 LITELLM_LOCAL_MODEL_COST_MAP=True"
O="--headless --always-approve --override-with-envs --exit-without-confirmation"
begin() { on m1 openhands $O -t "LABPROMPT $WORD please run echo"; }; resume() { on m2 openhands $O --resume "$1" -t 'LABSECOND'; }
