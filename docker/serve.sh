#!/bin/sh
# Starts the service as the active profiles of docker-compose.yml want it.
set -eu

active() {
    case ",${COMPOSE_PROFILES:-}," in
        *,"$1",*) true ;;
        *) false ;;
    esac
}

config=configs/teacher/builtin.yaml
if active vllm; then
    config=configs/teacher/vllm.yaml
    export TACO_SERVICE__VLLM__BASE_URL=http://vllm:8000/v1
fi
if active postgres; then
    export TACO_SERVICE__STORE='postgresql://taco@postgres/completions?passfile=/secrets/pgpass'
    taco cache migrate --store "$TACO_SERVICE__STORE"
fi
exec taco serve --config "${TACO_TEACHER_CONFIG:-$config}"
