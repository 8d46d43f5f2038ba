/* The batch script of a sweep: from the plan and the words of `tunelaw submit` to the file that sbatch reads. What is
 * asked of Slurm comes first, then the sweep's own values, then slurm_job.sh. */
#include <math.h>
#include <string.h>

#include "orchestrator/slurm.h"
#include "slurm_job.h" /* slurm_job_script[]: the bytes of slurm_job.sh */

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

/* A word with blanks in it is quoted, as the shell would have it. */
static void extra_option(FILE *out, const char *word)
{
    const char *quote = strpbrk(word, " \t'") ? "\"" : "";
    fprintf(out, "#SBATCH %s%s%s\n", quote, word, quote);
}

static void write_options(const struct slurm_job *job, FILE *out)
{
    char time[32];
    slurm_time_format(job->seconds, time);
    fprintf(out, "#SBATCH --job-name=tunelaw-%s\n", job->name);
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
    fprintf(out, "#SBATCH --signal=B:USR1@%.0f\n", ceil(job->grace)); /* to this script alone; it passes it on */
    fputs("#SBATCH --requeue\n#SBATCH --open-mode=append\n", out);
    fprintf(out, "#SBATCH --output=\"%s/logs/slurm-%%j.out\"\n#SBATCH --chdir=\"%s\"\n", job->dir, job->folder);
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

static void write_values(const struct slurm_job *job, FILE *out)
{
    fputc('\n', out);
    variable(out, "program", job->program);
    variable(out, "sweep", job->sweep);
    variable(out, "dir", job->dir);
    fprintf(out, "slurm=$dir/slurm\npoints=%zu\ngrace=%.0f # seconds in which every stage writes a checkpoint\n",
            job->points, ceil(job->grace));
    fprintf(out, "starts_without_progress=%d # then the job ends\n", STARTS_WITHOUT_PROGRESS);
    if (!job->srun) {
        fputs("launcher=(mpirun --map-by ppr:1:node --bind-to none)\n", out);
        return;
    }
    fputs("launcher=(srun --mpi=pmix --kill-on-bad-exit=1", out);
    if (job->cpus) fprintf(out, " --cpus-per-task=%zu", job->cpus); /* since Slurm 22.05 srun forgets that of the job */
    fputs(")\nexport OMPI_MCA_mpi_preconnect_mpi=1 # later connections have been seen to fail in Open MPI 4.1\n", out);
}

int slurm_script_write(const struct slurm_job *job, FILE *out)
{
    fprintf(out,
            "#!/bin/bash\n# Sweep \"%s\", written by `tunelaw submit`; `sbatch %s/slurm/job.sh` submits it again.\n",
            job->name, job->dir);
    write_options(job, out);
    write_values(job, out);
    fwrite(slurm_job_script, 1, sizeof slurm_job_script - 1, out);
    return fflush(out) || ferror(out) ? -1 : 0;
}
