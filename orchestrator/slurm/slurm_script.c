/* The batch scripts of a sweep: from the plan and the words of `tunelaw submit` to the files that sbatch reads. What is
 * asked of Slurm comes first, then the sweep's own values, then slurm_job.sh or slurm_merge.sh. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "orchestrator/slurm/slurm.h"
#include "slurm_job.h"   /* slurm_job_script[]: the bytes of slurm_job.sh */
#include "slurm_merge.h" /* slurm_merge_script[] */

#define STARTS_WITHOUT_PROGRESS 3

void slurm_time_format(double seconds, char out[32])
{
    long whole = (long)ceil(seconds), days = whole / 86400;
    int used = days ? snprintf(out, 32, "%ld-", days) : 0;
    snprintf(out + used, 32 - (size_t)used, "%02ld:%02ld:%02ld", whole / 3600 % 24, whole / 60 % 60, whole % 60);
}

static void option(FILE *out, const char *name, const char *value)
{
    if (value) fprintf(out, "#SBATCH --%s=%s\n", name, value);
}

static void count_option(FILE *out, const char *name, size_t value, const char *unit)
{
    fprintf(out, "#SBATCH --%s=%zu%s\n", name, value, unit);
}

/* A word with blanks in it is quoted, as the shell would have it; outside of quotes a # begins a comment. */
static void extra_option(FILE *out, const char *word)
{
    const char *quote = strpbrk(word, " \t'#") ? "\"" : "";
    fprintf(out, "#SBATCH %s%s%s\n", quote, word, quote);
}

/* What the parts of an array are asked for beside the rest. */
static void write_array_options(const struct slurm_job *job, FILE *out)
{
    if (job->kind != SLURM_TASKS) return;
    option(out, "array", job->task_list);
    fputs("#SBATCH --kill-on-invalid-dep=yes\n", out); /* no trunks: the tasks end, and the merge says so */
}

static void write_options(const struct slurm_job *job, FILE *out)
{
    static const char *const suffixes[SLURM_KINDS] = {"", "-trunks", "-tasks", "-merge"};
    char time[32];
    slurm_time_format(job->seconds, time);
    fprintf(out, "#SBATCH --job-name=tunelaw-%s%s\n", job->name, suffixes[job->kind]);
    write_array_options(job, out);
    count_option(out, "nodes", job->nodes, "");
    fputs("#SBATCH --ntasks-per-node=1\n", out); /* one rank a node: the node's agent */
    if (job->cpus)
        count_option(out, "cpus-per-task", job->cpus, "");
    else
        fputs("#SBATCH --exclusive\n", out);
    if (job->gpus) count_option(out, "gpus-per-node", job->gpus, "");
    count_option(out, "mem", job->memory_mib, job->memory_mib ? "M" : "");
    option(out, "time", time);
    option(out, "partition", job->partition);
    option(out, "account", job->account);
    option(out, "qos", job->qos);
    option(out, "mail-user", job->mail);
    if (job->mail) fputs("#SBATCH --mail-type=END,FAIL,REQUEUE\n", out);
    if (job->kind != SLURM_MERGE) /* to this script alone; it passes it on */
        fprintf(out, "#SBATCH --signal=B:USR1@%.0f\n", ceil(job->grace));
    fputs("#SBATCH --requeue\n#SBATCH --open-mode=append\n", out);
    fprintf(out, "#SBATCH --output=\"%s/logs/slurm-%s.out\"\n", job->dir, job->kind == SLURM_TASKS ? "%A_%a" : "%j");
    fprintf(out, "#SBATCH --chdir=\"%s\"\n", job->folder);
    for (size_t i = 0; i < job->extra_count; i++)
        extra_option(out, job->extra[i]);
}

/* NAME='text', whatever is in it. */
static void variable(FILE *out, const char *name, const char *text)
{
    fprintf(out, "%s='", name);
    for (; *text; text++)
        if (*text == '\'')
            fputs("'\\''", out);
        else
            fputc(*text, out);
    fputs("'\n", out);
}

/* Which part of the sweep this is, and what of it is in which folder. */
static void write_part(const struct slurm_job *job, FILE *out)
{
    static const char *const names[SLURM_KINDS] = {"sweep", "trunks", "task", "merge"};
    fprintf(out, "kind=%s\nscript=$parent/slurm/%s\n", names[job->kind], slurm_script_name(job->kind));
    if (job->kind == SLURM_TASKS)
        fprintf(out,
                "task=$SLURM_ARRAY_TASK_ID\ndir=$parent/shards/$task\n"
                "part=(--array-task \"$task/%" PRIu32 "\" --bases \"$parent\")\n",
                job->tasks);
    else if (job->kind == SLURM_TRUNKS)
        fprintf(out, "task=\ndir=$parent\npart=(--array-task 0/%" PRIu32 ")\n", job->tasks);
    else
        fputs("task=\ndir=$parent\npart=()\n", out);
}

static void write_values(const struct slurm_job *job, FILE *out)
{
    fputc('\n', out);
    variable(out, "program", job->program);
    variable(out, "parent", job->dir);
    if (job->kind == SLURM_MERGE) return;
    variable(out, "sweep", job->sweep);
    write_part(job, out);
    fprintf(out, "points=%zu\ngrace=%.0f # seconds in which every stage writes a checkpoint\n", job->points,
            ceil(job->grace));
    fprintf(out, "starts_without_progress=%d # then the job ends\n", STARTS_WITHOUT_PROGRESS);
    if (!job->srun) {
        fputs("launcher=(mpirun --map-by ppr:1:node --bind-to none)\n", out);
        return;
    }
    fputs("launcher=(srun --mpi=pmix --kill-on-bad-exit=1", out);
    if (job->cpus) fprintf(out, " --cpus-per-task=%zu", job->cpus); /* since Slurm 22.05 srun forgets that of the job */
    fputs(")\nexport OMPI_MCA_mpi_preconnect_mpi=1 # later connections have been seen to fail in Open MPI 4.1\n", out);
}

const char *slurm_script_name(enum slurm_kind kind)
{
    static const char *const names[SLURM_KINDS] = {"job.sh", "trunks.sh", "array.sh", "merge.sh"};
    return names[kind];
}

int slurm_script_write(const struct slurm_job *job, FILE *out)
{
    static const char *const what[SLURM_KINDS] = {"", ": the trunks that several tasks of its array need",
                                                  ": one task of its array", ": the stores of its array become one"};
    fprintf(out, "#!/bin/bash\n# Sweep \"%s\"%s. Written by `tunelaw submit`; `sbatch %s/slurm/%s` submits it again.\n",
            job->name, what[job->kind], job->dir, slurm_script_name(job->kind));
    write_options(job, out);
    write_values(job, out);
    if (job->kind == SLURM_MERGE)
        fwrite(slurm_merge_script, 1, sizeof slurm_merge_script - 1, out);
    else
        fwrite(slurm_job_script, 1, sizeof slurm_job_script - 1, out);
    return fflush(out) || ferror(out) ? -1 : 0;
}
