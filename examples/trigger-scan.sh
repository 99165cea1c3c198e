#!/bin/sh
# Starts a scan from the CronJob, waits until it has ended, and prints its result.
#
# usage: trigger-scan.sh [-n NAMESPACE] [-c CRONJOB] [-j JOB] [-t SECONDS]
#
#   -n  the namespace [data-owner-resolver]
#   -c  the CronJob that is the template of the Job [data-owner-resolver]
#   -j  the name of the Job [the name of the CronJob, the time and a number]
#   -t  how long to wait, in seconds [14700: the deadline of the Job and 5 minutes]
#
# Exit codes: 0 done, with the result on stdout; 1 the scan has failed or takes too long; 2 the
# configuration of the scan or the usage of this script is wrong. The Job is removed at the end, unless
# it has failed. The account needs the rights of k8s/ownership/components/trigger. If $KUBECTL is set,
# it is called in place of kubectl.
set -eu

namespace=data-owner-resolver
cronjob=data-owner-resolver
container=data-owner-resolver
job=
seconds=14700

say() {
    printf 'trigger-scan: %s\n' "$*" >&2
}

usage() {
    say "$1"
    sed -n 's/^# usage: /usage: /p' "$0" >&2
    exit 2
}

while getopts :n:c:j:t: option; do
    case $option in
    n) namespace=$OPTARG ;;
    c) cronjob=$OPTARG ;;
    j) job=$OPTARG ;;
    t) seconds=$OPTARG ;;
    *) usage "bad option -$OPTARG" ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 0 ] || usage "unexpected argument $1"
case $seconds in
'' | *[!0-9]*) usage "not a number of seconds: $seconds" ;;
esac
: "${job:=$cronjob-$(date +%s)-$$}"

kube() {
    "${KUBECTL:-kubectl}" --namespace "$namespace" --request-timeout=30s "$@"
}

place=$(mktemp -d)
is_ours=
finish() {
    [ -z "$is_ours" ] || kube delete job "$job" --ignore-not-found --wait=false >&2 ||
        say "failed to delete job/$job"
    rm -rf "$place"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Fails if a Job of that name exists: this script has not created it.
kube create job "$job" --from="cronjob/$cronjob" >&2 || exit 1
is_ours=yes

# The state of the Job: Complete, Failed, or empty while it runs. `kubectl wait` waits for only one of
# them, so it would not notice a failure.
deadline=$(($(date +%s) + seconds))
misses=0
state=
while [ -z "$state" ]; do
    query='{range .status.conditions[?(@.status=="True")]}{.type}{"\n"}{end}'
    if kube get job "$job" --output "jsonpath=$query" >"$place/state" 2>"$place/errors"; then
        misses=0
        state=$(grep -x -e Complete -e Failed "$place/state") || state=
    else
        cat "$place/errors" >&2
        misses=$((misses + 1))
        if grep -q NotFound "$place/errors"; then
            is_ours=
            say "job/$job is gone: it was removed by another client"
            exit 1
        fi
        if [ "$misses" -ge 10 ]; then
            say "failed to ask for job/$job"
            exit 1
        fi
    fi
    [ -n "$state" ] && break
    if [ "$(date +%s)" -ge "$deadline" ]; then
        say "job/$job has not ended in $seconds seconds"
        exit 1
    fi
    sleep 1
done

pods="batch.kubernetes.io/job-name=$job"

if [ "$state" = Failed ]; then
    is_ours=
    query='{range .status.conditions[?(@.type=="Failed")]}{.reason}: {.message}{"\n"}{end}'
    say "job/$job has failed: $(kube get job "$job" --output "jsonpath=$query" || true)"
    # The exit code and the termination message of each pod.
    ended="{.status.containerStatuses[?(@.name==\"$container\")].state.terminated"
    query="{range .items[*]}$ended.exitCode}{\"\\t\"}$ended.message}{\"\\n\"}{end}"
    kube get pods --selector "$pods" --output "jsonpath=$query" >"$place/pods" || true
    cat "$place/pods" >&2
    say "job/$job is not removed yet; remove it with: kubectl -n $namespace delete job $job"
    if grep -q "^2$(printf '\t')" "$place/pods"; then exit 2; fi
    exit 1
fi

# After a retry, a Job has several pods.
query='{.items[0].metadata.name}'
pod=$(kube get pods --selector "$pods" --field-selector status.phase=Succeeded \
    --output "jsonpath=$query")
if ! kube logs "$pod" --container "$container" --request-timeout=10m >"$place/result"; then
    say "failed to read the result of job/$job"
    exit 1
fi
if [ ! -s "$place/result" ]; then
    say "nothing in the log: the result is in the file that RESOLVE_IN_POD_OUTPUT names"
    exit 0
fi
# If the node has rotated a log that is too large, the beginning is missing.
if [ "$(head -n 1 "$place/result") $(tail -n 1 "$place/result")" != "{ }" ] &&
    [ "$(head -c 4 "$place/result")" != "{}" ]; then
    say "the log of pod/$pod is not complete: use k8s/ownership/components/results-volume"
    exit 1
fi
cat "$place/result"
