# Aider (PyPI aider-chat), which calls no tools: so an answer with text is enough. The history of a project is found
# once another tool was used there, so this one is in the home.
. "$DRV/lib.sh"; VER=0.86.2; uv_inst $LAB/aider-$VER/venv ${PY312:-$HOME/.pyenv/versions/3.12.1/bin/python} aider-chat==$VER; BIN=$LAB/aider-$VER/venv/bin
ENVS="AIDER_ANALYTICS=false AIDER_CHECK_UPDATE=false LITELLM_LOCAL_MODEL_COST_MAP=True"; RESULT="Stub answer"
O="--yes-always --openai-api-base http://127.0.0.1:$PORT/v1 --openai-api-key stub --model openai/stub-model --no-show-model-warnings --no-analytics --no-check-update --no-gitignore --no-fancy-input --map-tokens 0 --no-show-release-notes"
begin() { on m1 aider $O --chat-history-file "$W/m1/.aider.chat.history.md" --message "LABPROMPT please say hello"; }
resume() { on m2 aider $O --restore-chat-history --message 'LABSECOND'; }
