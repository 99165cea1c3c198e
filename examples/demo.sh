#!/bin/sh
# Shows the ownership pipeline on a small tree of directories, with users from an LDIF file instead of
# a directory server. `make demo` runs it; usage: demo.sh DIRECTORY-OF-THE-BINARIES
set -eu

bin=$(cd "${1:?usage: demo.sh DIRECTORY-OF-THE-BINARIES}" && pwd)
users=$(cd "$(dirname "$0")/../e2e/testdata" && pwd)/users.ldif
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

mkdir -p data/project-alpha data/project-beta/drafts data/shared-datasets
if [ "$(id -u)" -eq 0 ]; then
    cp "$users" users.ldif
    chown 30001 data/project-alpha
    chown 30002 data/project-beta
    chown 30003 data/project-beta/drafts
    chown 30005 data/shared-datasets
else
    # Only root can change owners: all directories belong to the caller.
    cat >users.ldif <<LDIF
dn: uid=$(id -un),dc=example,dc=com
uidNumber: $(id -u)
mail: $(id -un)@example.com
LDIF
fi

PATH=$bin:$PATH

echo '$ scan-uids data/*'
scan-uids data/*
echo
echo '$ scan-uids data/* | resolver --ldif users.ldif'
scan-uids data/* | resolver --ldif users.ldif
echo
echo '$ resolve-in-pod --recursive --ldif users.ldif data'
resolve-in-pod --recursive --ldif users.ldif data
