/* Replicas of one Raft group on simulated nodes: clocks, network, disks and
 * state machines in one process, driven by one seed, and a checker that looks
 * on.
 *
 * What is checked, at each step:
 *   - all replicas apply the same entry at the same index, in order, each once;
 *     so nothing that was acknowledged is ever lost or altered;
 *   - at most one leader in a term;
 *   - no linearizable read is confirmed at an index below that of an entry that
 *     had been acknowledged when the read began;
 *   - no replica stops itself, and what its disk has makes sense;
 * and, after all faults have been mended, that the group works again, and all
 * members of it catch up. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Bugs of the driver; those of raft_group are RAFT_PLANT_*. */
#define SIM_PLANT_LYING_SYNC    1u /* a write is called durable before it is */
#define SIM_PLANT_NO_TERM_CHECK 2u /* reads are answered without asking */

/* What worlds can be. */
#define SIM_HARSH    1u /* slow disks, many and quick crashes */
#define SIM_LATE     2u /* messages of earlier connections arrive late */
#define SIM_RESTLESS 4u /* members change all the time */

struct sim_options {
    uint64_t seed;
    unsigned n_voters;     /* at first: 1..5 */
    uint64_t faults_ms;    /* how long there are faults */
    unsigned worlds;       /* SIM_* in any case; else of one seed in four */
    unsigned group_plants; /* RAFT_PLANT_* */
    unsigned plants;       /* SIM_PLANT_* */
    const char *log_path;  /* not NULL: keep real Raft logs here, too, in a new
                              file, and compare them at each start */
    bool is_quiet;         /* do not print the state at a violation */
};

struct sim_result {
    char violation[512]; /* "" when there is none */
    uint64_t n_events;
    uint64_t n_acked;
    uint64_t n_reads; /* confirmed */
    uint64_t n_leaders;
    uint64_t n_crashes;
    uint64_t n_snapshots;
    uint64_t n_installs;
    uint64_t n_changes; /* applied */
    uint64_t n_transfers;
};

/* Run one seed to its end, or to the first violation. Equal options give equal
 * results. */
void sim_run(const struct sim_options *options, struct sim_result *ret_result);
