/* Mutated superblocks: `fuzz_superblock SEED SECONDS`.
 *
 * A data directory is taken only by the node whose superblock is there, byte
 * for byte up to its checksum; whatever else is found is an errno of those
 * documented, told in one line that names the directory. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/checksum.h"
#include "storaged/superblock.h"
#include "tests/fuzz/fuzz.h"

#define CLUSTER 0x0123456789abcdefu
#define NODE    3u

static const char *const words[] = {
    "format",
    "format = 2\n",
    "cluster = ",
    "node = 3\n",
    "checksum = ",
    "0x",
    "\n",
    " ",
    "0",
    "-1",
    "99999999999999999999",
};

static char dir[64];
static char path[96];
static char lock_path[96];

static bool write_text(const char *text)
{
    FILE *file = fopen(path, "we");

    if (file == NULL) {
        return fuzz_fail("%s: %s", path, err_text(errno));
    }
    (void)fputs(text, file);
    return fclose(file) == 0 || fuzz_fail("%s: %s", path, err_text(errno));
}

static bool is_documented(int rc)
{
    return rc == -ESTALE || rc == -EINVAL || rc == -EBADMSG;
}

static bool check(const char *text, int wanted)
{
    static const char start[] =
        "format = 1\ncluster = 0123456789abcdef\nnode = 3\nchecksum = ";
    struct superblock *superblock = NULL;
    struct errmsg msg = { "" };
    bool is_ours = strncmp(text, start, strlen(start)) == 0;
    int rc;

    if (!write_text(text)) {
        return false;
    }
    rc = superblock_open(dir, CLUSTER, NODE, &superblock, &msg);
    superblock_close(superblock);
    if (rc == 0) {
        return is_ours || fuzz_fail("taken in spite of:\n%s", text);
    }
    if (!is_documented(rc) || (wanted <= 0 && rc != wanted)) {
        return fuzz_fail("%d instead of %d for:\n%s", rc, wanted, text);
    }
    return (strncmp(msg.text, dir, strlen(dir)) == 0 &&
            strchr(msg.text, '\n') == NULL) ||
           fuzz_fail("'%s' does not name %s", msg.text, dir);
}

/* Another superblock with a right checksum: what it says counts. */
static bool check_another(void)
{
    uint64_t format = 1 + fuzz_below(3);
    uint64_t cluster = fuzz_one_in(2) ? CLUSTER : fuzz_number();
    uint64_t node = fuzz_one_in(2) ? NODE : fuzz_number();
    int wanted = format > SUPERBLOCK_FORMAT           ? -EINVAL
                 : cluster != CLUSTER || node != NODE ? -ESTALE
                                                      : 0;
    char text[256];
    int n = snprintf(text, sizeof text,
                     "format = %" PRIu64 "\ncluster = %016" PRIx64
                     "\nnode = %" PRIu64 "\n",
                     format, cluster, node);

    (void)snprintf(text + n, sizeof text - (size_t)n,
                   "checksum = %08" PRIx32 "\n",
                   checksum_crc32c(text, (size_t)n));
    return check(text, wanted);
}

static bool run_round(void)
{
    struct superblock *superblock = NULL;
    char text[512] = "";
    size_t n_mutations = 1 + fuzz_below(3);
    FILE *file;

    if (fuzz_one_in(4)) {
        return check_another();
    }
    /* one of ours, as it is made */
    (void)unlink(path);
    if (superblock_open(dir, CLUSTER, NODE, &superblock, NULL) != 0) {
        return fuzz_fail("an empty directory is not taken");
    }
    superblock_close(superblock);
    file = fopen(path, "re");
    if (file == NULL) {
        return fuzz_fail("%s: %s", path, err_text(errno));
    }
    (void)fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    if (!check(text, 0)) {
        return false;
    }
    for (size_t i = 0; i < n_mutations; i++) {
        fuzz_mutate_text(text, sizeof text, words,
                         sizeof words / sizeof *words);
    }
    return check(text, 1); /* any */
}

int main(int argc, char **argv)
{
    int status;

    (void)strcpy(dir, access("/dev/shm", W_OK) == 0
                          ? "/dev/shm/gabion-fuzz-superblock-XXXXXX"
                          : "/tmp/gabion-fuzz-superblock-XXXXXX");
    if (mkdtemp(dir) == NULL) {
        perror(dir);
        return EXIT_FAILURE;
    }
    (void)snprintf(path, sizeof path, "%s/superblock", dir);
    (void)snprintf(lock_path, sizeof lock_path, "%s/lock", dir);
    status = fuzz_main(argc, argv, run_round);
    (void)unlink(path);
    (void)unlink(lock_path);
    (void)rmdir(dir);
    return status;
}
