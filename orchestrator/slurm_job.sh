
# --- the same for every sweep from here on ---
# Everything is in functions, so that bash has read it all before the warning can come: while it reads, it has been seen to take a trap for
# a part of what it reads. Only USR1 is trapped: with more traps it has been seen to lose it.
trap '' USR1

slurm=$dir/slurm
mkdir -p "$slurm" # a task's is new

job=$SLURM_JOB_ID
if [ -n "$task" ]; then
    job=${SLURM_ARRAY_JOB_ID}_$task # the last task has the id of its array: alone it would mean all of them
    # tasks start together on one node: Open MPI 4.1 fails where two mpirun make its folder at the same moment
    export OMPI_MCA_orte_tmpdir_base=${OMPI_MCA_orte_tmpdir_base:-${TMPDIR:-/tmp}}/tunelaw-$job
fi

unit=points
[ "$kind" != trunks ] || unit=stages

# Slurm's warning, before the time limit or a preemption: left where the run looks, since mpirun loses signals while it starts.
# shellcheck disable=SC2317 # the trap calls it
on_warning() {
    warned=yes
    : >"$slurm/drain"
}

say() {
    printf '== %s job %s: %s\n' "$(date '+%F %T')" "$job" "$*"
}

points_left() {
    if [ "$kind" = trunks ]; then
        echo "$points" # none, once the run ends well
    else
        "$program" status --left "$dir" 2>/dev/null || echo "$points"
    fi
}

# since the last start: a point was committed, or training has reached a new checkpoint
has_progressed() {
    [ "$(points_left)" -lt "$(cat "$slurm/left")" ] ||
        [ -n "$(find "$dir/checkpoints" -name '*.h5' -newer "$slurm/left" -print -quit 2>/dev/null)" ]
}

# A job that comes back again and again without progress must end.
count_start() {
    local idle=0
    if [ -e "$slurm/left" ] && ! has_progressed; then
        idle=$(($(cat "$slurm/idle" 2>/dev/null || echo 0) + 1))
    fi
    echo "$idle" >"$slurm/idle"
    points_left >"$slurm/left"
    if [ "$idle" -ge "$starts_without_progress" ]; then
        say "$idle starts without a new point or checkpoint: not started again; see $dir/logs, then \`tunelaw submit\` again"
        exit 1
    fi
}

stop_if_cancelled() {
    if [ -e "$parent/slurm/cancelled" ]; then
        say "cancelled, $(points_left) $unit left; \`tunelaw submit\` goes on from here"
        exit 0
    fi
}

# The array waits for its trunks: for this other job, then.
move_array() {
    local array answer
    array=$(sed -n 's/^array //p' "$parent/slurm/array")
    sed -i "s/^trunks .*/trunks $1/" "$parent/slurm/array"
    answer=$(scontrol update "jobid=$array" "dependency=afterok:$1" 2>&1) ||
        say "job $array does not wait for job $1 ($answer): its tasks train what they need themselves"
}

# Points are left: this job again or, where that is refused, another one after it.
queue_again() {
    local answer
    say "back into the queue" # Slurm may end this script before scontrol has
    if answer=$(scontrol requeue "$job" 2>&1); then
        sleep 60 & # Slurm ends this script
        wait
        exit 0
    fi
    say "requeue refused: $answer"
    if answer=$(sbatch --parsable --dependency="afterany:$job" ${task:+"--array=$task"} "$script" 2>&1); then
        echo "${answer%%;*}" >>"$parent/slurm/jobs"
        [ "$kind" != trunks ] || move_array "${answer%%;*}"
        say "job ${answer%%;*} goes on after this one"
        exit 0
    fi
    say "a job after this one is refused: $answer; \`tunelaw submit\` goes on from here"
    exit 1
}

end_of_job() {
    echo "${SLURM_JOB_END_TIME:-$(date -d "$(squeue -h -j "$job" -o %e)" +%s 2>/dev/null)}"
}

main() {
    local end run code left known=
    [ -e "$dir/results.h5" ] || known="at most "
    warned=no
    rm -f "$slurm/drain"
    trap on_warning USR1
    say "start $((${SLURM_RESTART_COUNT:-0} + 1)) on $SLURM_JOB_NODELIST, $known$(points_left) $unit left"
    stop_if_cancelled
    count_start
    end=$(end_of_job)
    [ $warned = no ] || queue_again

    "${launcher[@]}" "$program" run "$sweep" --dir "$dir" "${part[@]}" --drain-file "$slurm/drain" \
        --end-time "${end:-0}" --grace "$grace" --wait 120 &
    run=$!
    while
        wait "$run" # until it has ended, or a trap has run
        code=$?
        kill -0 "$run" 2>/dev/null
    do :; done

    left=$(points_left)
    [ "$kind$code" != trunks0 ] || left=0
    say "the run has ended with code $code, $left $unit left"
    stop_if_cancelled
    [ "$left" -gt 0 ] && queue_again
    exit "$code"
}

main
