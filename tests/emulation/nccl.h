/* What a test asks of the library that stands for NCCL (nccl.cc), and what that tells it: `emulated_nccl` there. */
#ifndef TUNELAW_TESTS_EMULATION_NCCL_H
#define TUNELAW_TESTS_EMULATION_NCCL_H

enum nccl_trouble {
    NCCL_WELL,
    NCCL_REFUSES_TO_JOIN, /* the call */
    NCCL_FAILS_TO_JOIN,   /* later */
    NCCL_NEVER_JOINS,
    NCCL_REFUSES_A_SUM,
    NCCL_BREAKS, /* a sum never ends, and the state of the communicator says so */
};

struct emulated_nccl {
    int looks;                 /* what a call asks for is done when its state has been looked at so often; 0: at once */
    enum nccl_trouble trouble; /* of `rank`; of sums: behind so many */
    int rank, sums;
    int communicators; /* that there are */
    int joining;       /* calls to join so far */
};

#endif
