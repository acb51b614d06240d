# Factory Droid (npm droid), a model of one's own and no login: so `exec --fork`, which needs no account. It
# starts no subagents here, because they need Droid's own daemon, which could not be reached.
. "$DRV/lib.sh"; VER=0.215.0; npm_inst $LAB/droid-$VER/pkg droid@$VER; BIN=$LAB/droid-$VER/pkg/node_modules/.bin; ENVS=
for m in m1 m2; do mkdir -p "$W/$m/.factory"; printf '{"customModels":[{"model":"stub-model","displayName":"Stub","baseUrl":"http://127.0.0.1:%s/v1","apiKey":"stub","provider":"generic-chat-completion-api","maxOutputTokens":4000}],"cloudSessionSync":false}' "$PORT" >"$W/$m/.factory/settings.json"; done
O="exec --skip-permissions-unsafe -m custom:stub-model"
begin() { on m1 droid $O "LABPROMPT $WORD please run echo"; }; fork() { on m1 droid $O --fork "$1" 'LABFORK'; }; resume() { on m2 droid $O --fork "$1" 'LABSECOND'; }
