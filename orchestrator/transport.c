/* Messages between the ranks: MPI point to point, nothing collective after the start. The only file that calls MPI. */
#include "orchestrator/transport.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

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
};

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
    return 0;
}

void transport_close(struct transport *transport)
{
    struct transport_queue *queue = transport->queue;
    if (!queue) return;
    for (struct message *m = queue->sending; m;) {
        struct message *next = m->next;
        MPI_Wait(&m->request, MPI_STATUS_IGNORE);
        free(m);
        m = next;
    }
    for (struct message *m = queue->self_first; m;) {
        struct message *next = m->next;
        free(m);
        m = next;
    }
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
        MPI_Test(&m->request, &arrived, MPI_STATUS_IGNORE);
        if (!arrived) {
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
    if (MPI_Isend(m->payload, (int)size, MPI_BYTE, rank, tag, MPI_COMM_WORLD, &m->request) != MPI_SUCCESS) {
        free(m);
        return error_set(err, "MPI_Isend to rank %d failed", rank);
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
    if (MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &there, &status) != MPI_SUCCESS)
        return error_set(err, "MPI_Iprobe failed");
    if (!there) return 0;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    void *buffer = malloc((size_t)bytes + 1);
    if (!buffer) return error_set(err, "out of memory");
    if (MPI_Recv(buffer, bytes, MPI_BYTE, status.MPI_SOURCE, status.MPI_TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE) !=
        MPI_SUCCESS) {
        free(buffer);
        return error_set(err, "MPI_Recv from rank %d failed", status.MPI_SOURCE);
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
