#!/bin/sh
# Runs a command with the key that the first start of docker-compose.yml made, if there is one.
set -eu
case ",${COMPOSE_PROFILES:-}," in
    *,gpu,*)
        if [ "${TACO_TRAINS_ON:-cpu}" != gpu ]; then
            echo "the profile gpu is active: trainer-gpu trains, and this container ends"
            exit 0
        fi
        ;;
esac
if [ -r /secrets/trainer ]; then
    TACO_TEACHER_KEY=$(cat /secrets/trainer)
    export TACO_TEACHER_KEY
fi
exec "$@"
