# Continue CLI (npm @continuedev/cli)
. "$DRV/lib.sh"; VER=1.5.47; npm_inst $LAB/continue-$VER/pkg @continuedev/cli@$VER; BIN=$LAB/continue-$VER/pkg/node_modules/.bin
ENVS="CONTINUE_TELEMETRY_ENABLED=0 CONTINUE_ALLOW_ANONYMOUS_TELEMETRY=0 DO_NOT_TRACK=1"
for m in m1 m2; do mkdir -p "$W/$m/.continue"; printf 'name: Lab\nversion: 1.0.0\nschema: v1\nmodels:\n  - name: Stub\n    provider: openai\n    model: stub-model\n    apiBase: http://127.0.0.1:%s/v1\n    apiKey: stub\n    roles: [chat, edit, apply]\n    capabilities: [tool_use]\n' "$PORT" >"$W/$m/.continue/config.yaml"; done
begin() { on m1 cn --config $W/m1/.continue/config.yaml --auto -p "LABPROMPT $WORD please run echo"; }; fork() { on m1 cn --config $W/m1/.continue/config.yaml --auto --fork "$1" -p 'LABFORK'; }; resume() { on m2 cn --config $W/m2/.continue/config.yaml --auto --fork "$1" -p 'LABSECOND'; }
