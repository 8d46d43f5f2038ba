
# --- the same for every sweep from here on ---

say() {
    printf '== %s job %s: %s\n' "$(date '+%F %T')" "$SLURM_JOB_ID" "$*"
}

# Jobs of the array that have not ended: a task that could not be put back into the queue goes on as another job.
others() {
    squeue -h -u "$(id -un)" -o %F | sort -u | grep -xFf "$parent/slurm/jobs" | grep -vx "$SLURM_JOB_ID" | paste -sd:
}

busy=$(others)
if [ -n "$busy" ]; then
    say "tasks go on as other jobs ($busy): merged after them"
    if answer=$(sbatch --parsable --dependency="afterany:$busy" "$parent/slurm/merge.sh" 2>&1); then
        echo "${answer%%;*}" >>"$parent/slurm/jobs"
        sed -i "s/^merge .*/merge ${answer%%;*}/" "$parent/slurm/array"
        exit 0
    fi
    say "a job after them is refused: $answer"
fi

stores=()
for store in "$parent"/shards/*/results.h5; do
    [ -e "$store" ] && stores+=("$(dirname "$store")")
done
say "${#stores[@]} tasks have a store"
if ! "$program" merge --complete "$parent" "${stores[@]:-$parent}"; then
    say "not complete, not fitted: \`tunelaw submit\` runs what is left, \`tunelaw fit $parent\` fits what is there"
    exit 1
fi
"$program" fit "$parent" || say "no law could be fitted"
"$program" report "$parent"
