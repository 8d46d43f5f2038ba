/* The plan of a sweep that tests make. Include after cmocka.h. */
#ifndef TUNELAW_TESTS_ORCHESTRATOR_PLAN_FIXTURE_H
#define TUNELAW_TESTS_ORCHESTRATOR_PLAN_FIXTURE_H

#include "orchestrator/plan/plan.h"
#include "tests/orchestrator/sweep_fixture.h"

/* At 1 GFLOP/s a device; one that cannot be planned fails the test. */
static inline struct plan *plan_make(const struct sweep *sweep)
{
    struct error err = {""};
    struct plan *plan = plan_create(sweep, 1e9, &err);
    if (!plan) fail_msg("%s", err.text);
    return plan;
}

#endif
