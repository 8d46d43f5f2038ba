
# --- the same for every sweep from here on ---
# Two shells: this one waits for Slurm's warning and does nothing else, a child does the work. A trap that comes while bash 5.2 reads a
# script or substitutes a command has been seen to end the script with a syntax error; with more traps than one, signals have been seen lost.
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

# Seconds since 1970, nothing where it is not known. Slurm 22.05 does not set the variable yet: the queue is asked.
end_of_job() {
    local end=${SLURM_JOB_END_TIME:-}
    if [ -z "$end" ]; then
        end=$(squeue -h -j "$job" -o %e 2>/dev/null)
        end=${end:+$(date -d "$end" +%s 2>/dev/null)} # date takes an empty word for the last midnight
    fi
    echo "$end"
}

main() {
    local end code left known=
    [ -e "$dir/results.h5" ] || known="at most "
    say "start $((${SLURM_RESTART_COUNT:-0} + 1)) on $SLURM_JOB_NODELIST, $known$(points_left) $unit left"
    stop_if_cancelled
    count_start
    end=$(end_of_job)
    [ ! -e "$slurm/drain" ] || queue_again

    "${launcher[@]}" "$program" run "$sweep" --dir "$dir" "${part[@]}" --drain-file "$slurm/drain" \
        --end-time "${end:-0}" --grace "$grace" --wait 120
    code=$?
    left=$(points_left)
    [ "$kind$code" != trunks0 ] || left=0
    say "the run has ended with code $code, $left $unit left"
    stop_if_cancelled
    [ "$left" -gt 0 ] && queue_again
    exit "$code"
}

# Slurm's warning, before the time limit or a preemption, is left where the run looks: mpirun loses signals while it starts.
wait_for_warning() {
    trap ': >"$slurm/drain"' USR1
    (
        trap '' USR1
        main
    ) &
    work=$!
    while
        wait "$work" # until it has ended, or the trap has run
        code=$?
        kill -0 "$work" 2>/dev/null
    do :; done
    exit "$code"
}

rm -f "$slurm/drain"
wait_for_warning
