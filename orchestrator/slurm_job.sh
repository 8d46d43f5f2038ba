
# --- the same for every sweep from here on ---
# Everything is in functions, so that bash has read it all before the warning can come: while it reads, it has been seen to take a trap for
# a part of what it reads. Only USR1 is trapped: with more traps it has been seen to lose it.
trap '' USR1

# Slurm's warning, before the time limit or a preemption: left where the run looks, since mpirun loses signals while it starts.
on_warning() {
    warned=yes
    : >"$slurm/drain"
}

say() {
    printf '== %s job %s: %s\n' "$(date '+%F %T')" "$SLURM_JOB_ID" "$*"
}

points_left() {
    "$program" status --left "$dir" 2>/dev/null || echo "$points"
}

# since the last start: a point was committed, or training has reached a new checkpoint
has_progressed() {
    [ "$(points_left)" -lt "$(cat "$slurm/left")" ] ||
        [ -n "$(find "$dir/checkpoints" -name '*.h5' -newer "$slurm/left" -print -quit)" ]
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
    if [ -e "$slurm/cancelled" ]; then
        say "cancelled, $(points_left) points left; \`tunelaw submit\` goes on from here"
        exit 0
    fi
}

# Points are left: this job again or, where that is refused, another one after it.
queue_again() {
    local answer
    say "back into the queue" # Slurm may end this script before scontrol has
    if answer=$(scontrol requeue "$SLURM_JOB_ID" 2>&1); then
        sleep 60 & # Slurm ends this script
        wait
        exit 0
    fi
    say "requeue refused: $answer"
    if answer=$(sbatch --parsable --dependency="afterany:$SLURM_JOB_ID" "$slurm/job.sh" 2>&1); then
        echo "${answer%%;*}" >>"$slurm/jobs"
        say "job ${answer%%;*} goes on after this one"
        exit 0
    fi
    say "a job after this one is refused: $answer; \`tunelaw submit\` goes on from here"
    exit 1
}

end_of_job() {
    echo "${SLURM_JOB_END_TIME:-$(date -d "$(squeue -h -j "$SLURM_JOB_ID" -o %e)" +%s 2>/dev/null)}"
}

main() {
    local end run code left
    warned=no
    rm -f "$slurm/drain"
    trap on_warning USR1
    say "start $((${SLURM_RESTART_COUNT:-0} + 1)) on $SLURM_JOB_NODELIST, $(points_left) points left"
    stop_if_cancelled
    count_start
    end=$(end_of_job)
    [ $warned = no ] || queue_again

    "${launcher[@]}" "$program" run "$sweep" --dir "$dir" --drain-file "$slurm/drain" --end-time "${end:-0}" --grace "$grace" --wait 120 &
    run=$!
    while
        wait "$run" # until it has ended, or a trap has run
        code=$?
        kill -0 "$run" 2>/dev/null
    do :; done

    left=$(points_left)
    say "the run has ended with code $code, $left points left"
    stop_if_cancelled
    [ "$left" -gt 0 ] && queue_again
    exit "$code"
}

main
