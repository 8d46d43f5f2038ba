/* Messages between the ranks: MPI point to point, nothing collective after the start. The only file that calls MPI.
 *
 * Where MPI can tell of dead ranks (ULFM: Bland et al. 2013; Open MPI 5 under `mpirun --with-ft ulfm`), errors come
 * back as codes: what is on its way to a dead rank is dropped, and transport_lost names it. Elsewhere mpirun ends the
 * job. */
#include "orchestrator/run/transport.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#ifdef OPEN_MPI
#include <mpi-ext.h>
#endif
#ifdef OMPI_HAVE_MPI_EXT_FTMPI
#define ULFM 1
#else
#define ULFM 0
#endif

struct message {
    struct message *next;
    int tag;
    size_t size;
    MPI_Request request;
    char payload[];
};

struct transport_queue {
    struct message *self_first, *self_last; /* to oneself */
    struct message *sending;                /* on their way */
    size_t sending_count;
    bool *lost; /* [ranks] found dead, and told; NULL: MPI cannot tell */
    size_t lost_count;
};

#if ULFM
static bool is_loss(int code)
{
    int class = MPI_SUCCESS;
    if (code != MPI_SUCCESS) MPI_Error_class(code, &class);
    return class == MPIX_ERR_PROC_FAILED || class == MPIX_ERR_PROC_FAILED_PENDING;
}

/* ULFM is in the library, but mpirun must have been asked for it. */
static int watch_ranks(struct transport *transport, struct error *err)
{
    int *enabled = NULL, known = 0;
    if (transport->size > 1) MPI_Comm_get_attr(MPI_COMM_WORLD, MPIX_FT, &enabled, &known);
    if (!known || !*enabled) return 0;
    transport->queue->lost = calloc((size_t)transport->size, sizeof *transport->queue->lost);
    if (!transport->queue->lost) return error_set(err, "out of memory");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    return 0;
}

int transport_lost(struct transport *transport)
{
    struct transport_queue *queue = transport->queue;
    if (!queue->lost) return -1;
    MPI_Group dead, world;
    int count = 0, found = -1;
    if (MPIX_Comm_get_failed(MPI_COMM_WORLD, &dead) != MPI_SUCCESS) return -1;
    MPI_Group_size(dead, &count);
    if ((size_t)count > queue->lost_count) {
        int acknowledged;
        MPIX_Comm_ack_failed(MPI_COMM_WORLD, count, &acknowledged); /* lets messages from anybody be probed again */
        MPI_Comm_group(MPI_COMM_WORLD, &world);
        for (int i = 0; i < count && found < 0; i++) {
            int rank;
            MPI_Group_translate_ranks(dead, 1, &i, world, &rank);
            if (!queue->lost[rank]) found = rank;
        }
        MPI_Group_free(&world);
    }
    MPI_Group_free(&dead);
    if (found < 0) return -1;
    queue->lost[found] = true;
    queue->lost_count++;
    return found;
}
#else
static bool is_loss(int code)
{
    (void)code;
    return false;
}

static int watch_ranks(struct transport *transport, struct error *err)
{
    (void)transport, (void)err;
    return 0;
}

int transport_lost(struct transport *transport)
{
    (void)transport;
    return -1;
}
#endif

static bool is_lost(const struct transport_queue *queue, int rank)
{
    return queue->lost && queue->lost[rank];
}

static bool started_by_mpi(void)
{
    static const char *const signs[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (getenv(signs[i])) return true;
    return false;
}

int transport_open(struct transport *transport, int *argc, char ***argv, struct error *err)
{
    *transport = (struct transport){.size = 1, .local_size = 1, .mpi = started_by_mpi()};
    transport->queue = calloc(1, sizeof *transport->queue);
    if (!transport->queue) return error_set(err, "out of memory");
    if (transport->mpi) {
        int level; /* rank 0 has a thread that never calls MPI */
        if (MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS)
            return error_set(err, "MPI_Init failed");
        MPI_Comm_rank(MPI_COMM_WORLD, &transport->rank);
        MPI_Comm_size(MPI_COMM_WORLD, &transport->size);
        MPI_Comm host;
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, transport->rank, MPI_INFO_NULL, &host);
        MPI_Comm_rank(host, &transport->local_rank);
        MPI_Comm_size(host, &transport->local_size);
        MPI_Comm_free(&host);
    }
    const char *tasks = getenv("SLURM_NTASKS");
    if (transport->size == 1 && tasks && strtol(tasks, NULL, 10) > 1)
        return error_set(
            err,
            "SLURM_NTASKS is %s but this process is alone in its MPI world: %s masters would share one store; "
            "start it with mpirun, with srun --mpi=pmix, or with --ntasks=1",
            tasks, tasks);
    return watch_ranks(transport, err);
}

void transport_close(struct transport *transport)
{
    struct transport_queue *queue = transport->queue;
    if (!queue) return;
    for (struct message *m = queue->sending; m;) {
        struct message *next = m->next;
        MPI_Wait(&m->request, MPI_STATUS_IGNORE); /* to a dead rank: returns with an error */
        free(m);
        m = next;
    }
    for (struct message *m = queue->self_first; m;) {
        struct message *next = m->next;
        free(m);
        m = next;
    }
    free(queue->lost);
    free(queue);
    transport->queue = NULL;
    if (transport->mpi) MPI_Finalize();
}

int transport_broadcast(struct transport *transport, void *bytes, size_t size)
{
    if (transport->mpi) MPI_Bcast(bytes, (int)size, MPI_BYTE, 0, MPI_COMM_WORLD);
    return 0;
}

/* Free the messages that have arrived. */
static void progress(struct transport_queue *queue)
{
    for (struct message **at = &queue->sending; *at;) {
        struct message *m = *at;
        int arrived = 0;
        if (MPI_Test(&m->request, &arrived, MPI_STATUS_IGNORE) == MPI_SUCCESS && !arrived) {
            at = &m->next;
            continue;
        }
        *at = m->next;
        queue->sending_count--;
        free(m);
    }
}

int transport_send(struct transport *transport, int rank, int tag, const void *payload, size_t size, struct error *err)
{
    struct transport_queue *queue = transport->queue;
    struct message *m = malloc(sizeof *m + size);
    if (!m) return error_set(err, "out of memory");
    m->next = NULL;
    m->tag = tag;
    m->size = size;
    if (size) memcpy(m->payload, payload, size);
    if (rank == transport->rank) {
        if (queue->self_last)
            queue->self_last->next = m;
        else
            queue->self_first = m;
        queue->self_last = m;
        return 0;
    }
    int code = is_lost(queue, rank)
                   ? MPI_SUCCESS
                   : MPI_Isend(m->payload, (int)size, MPI_BYTE, rank, tag, MPI_COMM_WORLD, &m->request);
    if (is_lost(queue, rank) || code != MPI_SUCCESS) {
        free(m);
        return code == MPI_SUCCESS || is_loss(code) ? 0 : error_set(err, "MPI_Isend to rank %d failed", rank);
    }
    m->next = queue->sending;
    queue->sending = m;
    queue->sending_count++;
    return 0;
}

int transport_receive(struct transport *transport, int *rank, int *tag, void **payload, size_t *size, struct error *err)
{
    struct transport_queue *queue = transport->queue;
    struct message *m = queue->self_first;
    if (m) {
        queue->self_first = m->next;
        if (!m->next) queue->self_last = NULL;
        void *copy = malloc(m->size + 1);
        if (copy) {
            memcpy(copy, m->payload, m->size);
            *rank = transport->rank;
            *tag = m->tag;
            *payload = copy;
            *size = m->size;
        }
        free(m);
        return copy ? 1 : error_set(err, "out of memory");
    }
    if (!transport->mpi) return 0;
    progress(queue);
    int there = 0, bytes = 0;
    MPI_Status status;
    int code = MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &there, &status);
    if (code != MPI_SUCCESS && !is_loss(code)) return error_set(err, "MPI_Iprobe failed");
    if (code != MPI_SUCCESS || !there) return 0; /* a loss: transport_lost tells of it */
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    void *buffer = malloc((size_t)bytes + 1);
    if (!buffer) return error_set(err, "out of memory");
    code = MPI_Recv(buffer, bytes, MPI_BYTE, status.MPI_SOURCE, status.MPI_TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (code != MPI_SUCCESS) {
        free(buffer);
        return is_loss(code) ? 0 : error_set(err, "MPI_Recv from rank %d failed", status.MPI_SOURCE);
    }
    *rank = status.MPI_SOURCE;
    *tag = status.MPI_TAG;
    *payload = buffer;
    *size = (size_t)bytes;
    return 1;
}

bool transport_waiting(const struct transport *transport)
{
    return transport->queue->self_first != NULL;
}

size_t transport_pending(struct transport *transport)
{
    if (transport->mpi) progress(transport->queue);
    return transport->queue->sending_count;
}
