/* What `tunelaw plan --simulate` says. */
#include "orchestrator/plan/simulate_print.h"

#include <inttypes.h>
#include <jansson.h>

#include "io/quantity.h"

static const char *order_name(const struct plan *plan, enum schedule_order order)
{
    if (plan->sweep->resources.order == SWEEP_INFORMATION) return "most information first";
    return order == SCHEDULE_CHAIN ? "longest chain first" : "chain times devices first";
}

static int print_json(const struct plan *plan, const struct simulate_options *o, const struct simulate_result *r,
                      FILE *out, struct error *err)
{
    json_t *object =
        json_pack("{s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:f, s:s}", "makespan_seconds", r->makespan_seconds,
                  "lower_bound_seconds", r->lower_bound_seconds, "tight_bound_seconds", r->tight_bound_seconds,
                  "utilisation", r->utilisation, "jobs", (json_int_t)r->jobs, "placed", (json_int_t)r->placed, "nodes",
                  (json_int_t)o->nodes, "devices_per_node", (json_int_t)o->devices, "wall_seconds", o->wall_seconds,
                  "order", order_name(plan, r->order));
    int rc = object ? json_dumpf(object, out, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : -1;
    json_decref(object);
    if (rc || fputc('\n', out) == EOF || fflush(out)) return error_set_errno(err, "standard output");
    return 0;
}

static int print_text(const struct plan *plan, const struct simulate_options *o, const struct simulate_result *r,
                      FILE *out, struct error *err)
{
    char a[QUANTITY_TEXT], b[QUANTITY_TEXT], c[QUANTITY_TEXT];
    fprintf(out, "simulated on %zu x %" PRIu32 " devices: %s, utilisation %.1f %%, %s\n", o->nodes, o->devices,
            quantity_time(r->makespan_seconds, a), 100.0 * r->utilisation, order_name(plan, r->order));
    fprintf(out, "  %.3f times the lower bound %s (work shared evenly, longest chain)\n",
            r->lower_bound_seconds > 0.0 ? r->makespan_seconds / r->lower_bound_seconds : 1.0,
            quantity_time(r->lower_bound_seconds, b));
    fprintf(out, "  %.3f times the tighter bound %s (also gangs that fit beside each other, what is ready when)\n",
            r->tight_bound_seconds > 0.0 ? r->makespan_seconds / r->tight_bound_seconds : 1.0,
            quantity_time(r->tight_bound_seconds, c));
    if (o->wall_seconds > 0.0)
        fprintf(out, "  in %zu job%s of %s, each with its drain %.0f s before its end; waiting times are not in it\n",
                r->jobs, r->jobs == 1 ? "" : "s", quantity_time(o->wall_seconds, a), o->grace_seconds);
    return fflush(out) || ferror(out) ? error_set_errno(err, "standard output") : 0;
}

int simulate_print(const struct plan *plan, const struct simulate_options *options, bool json, FILE *out,
                   struct error *err)
{
    struct simulate_result result;
    if (simulate_best(plan, options, &result, err)) return -1;
    return json ? print_json(plan, options, &result, out, err) : print_text(plan, options, &result, out, err);
}
