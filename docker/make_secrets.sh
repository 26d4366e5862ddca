#!/bin/sh
# The first start's secrets, in a folder that the containers share; what is there already stays.
#
#   trainer             a key that may ask for completions, and read what they cost
#   admin               a key that may do everything: yours
#   keys.json           both, hashed, as the service checks them
#   postgres_password, pgpass   a database's password, for its server and for the service
set -eu
umask 077
cd "${1:-/secrets}"

key() {
    name=$1
    shift
    [ -s "$name" ] && return
    # A first start that was cut off may have left the hash of a key that nobody has.
    taco serve keys revoke "$name" --file keys.json >/dev/null 2>&1 || true
    taco serve keys add "$name" "$@" --file keys.json > "$name.part"
    mv "$name.part" "$name"
}

key trainer --scope use --scope read
key admin --scope admin
if [ ! -s pgpass ]; then
    password=$(python -c 'import secrets; print(secrets.token_urlsafe(32))')
    printf %s "$password" > postgres_password
    chmod 644 postgres_password  # Its server reads it as a user of its own.
    echo "*:*:*:taco:$password" > pgpass.part
    mv pgpass.part pgpass
fi
