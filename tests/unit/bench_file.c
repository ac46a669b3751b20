/* What the file store itself costs, over nodes that forget everything:
 *
 *   bench_file [small]
 *
 * Prints MB/s, operations per second and CPU seconds per GiB, of this process:
 * encoding and checksums included, the network not. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/buf.h"
#include "common/clock.h"
#include "fusefs/file.h"
#include "tests/unit/file_fake.h"

#define TOTAL ((uint64_t)1 << 30)

static const struct objio_policy ec42 = { 4, 2, 256u << 10, 5 };

static double cpu_seconds(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

struct lap {
    int64_t start_ns;
    double start_cpu;
};

static void begin(struct lap *lap)
{
    lap->start_ns = clock_mono_ns();
    lap->start_cpu = cpu_seconds();
}

static void end(const struct lap *lap,
                const char *what,
                uint64_t bytes,
                uint64_t n)
{
    double seconds = (double)(clock_mono_ns() - lap->start_ns) / 1e9;
    double cpu = cpu_seconds() - lap->start_cpu;

    printf("%-34s %7.0f MB/s %9.0f op/s %6.2f CPU-s/GiB\n", what,
           (double)bytes / 1e6 / seconds, (double)n / seconds,
           cpu * (double)((uint64_t)1 << 30) / (double)bytes);
}

static void check(int rc)
{
    if (rc != 0) {
        (void)fprintf(stderr, "bench_file: %s\n", err_text(rc));
        exit(EXIT_FAILURE);
    }
}

static struct file *open_file(struct file_fake *fake, uint64_t ino)
{
    struct file_attr attr = { 0 };
    struct file *file;

    check(file_get(file_fake_store(fake), ino, &file));
    file_fake_attr(fake, ino, &attr);
    if (attr.size == 0) {
        file_created(file, &attr);
    } else {
        file_revalidate(file, &attr);
    }
    return file;
}

static void bench_write(struct file_fake *fake,
                        uint64_t ino,
                        size_t piece,
                        uint8_t *bytes)
{
    struct file *file = open_file(fake, ino);
    struct lap lap;
    char what[64];

    (void)snprintf(what, sizeof what, "sequential write, %zu KiB", piece >> 10);
    begin(&lap);
    for (uint64_t offset = 0; offset < TOTAL; offset += piece) {
        check(file_write(file, offset, piece, bytes, false));
    }
    check(file_flush(file));
    end(&lap, what, TOTAL, TOTAL / piece);
    file_put(file);
}

static void bench_random_write(struct file_fake *fake,
                               uint64_t ino,
                               uint8_t *bytes)
{
    struct file *file = open_file(fake, ino);
    uint64_t random = 1;
    struct lap lap;
    uint64_t n = 200000;

    begin(&lap);
    for (uint64_t i = 0; i < n; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        check(file_write(file, (random >> 33) % (TOTAL / 4096) * 4096, 4096,
                         bytes, false));
    }
    check(file_fsync(file));
    end(&lap, "random write, 4 KiB, one fsync", n * 4096, n);
    file_put(file);
}

static void bench_read(struct file_fake *fake,
                       uint64_t ino,
                       size_t piece,
                       uint8_t *bytes)
{
    struct file *file = open_file(fake, ino);
    struct lap lap;
    char what[64];
    size_t got;

    (void)snprintf(what, sizeof what, "sequential read, %zu KiB", piece >> 10);
    begin(&lap);
    for (uint64_t offset = 0; offset < TOTAL; offset += piece) {
        check(file_read(file, offset, piece, bytes, &got));
        assert(got == piece);
    }
    end(&lap, what, TOTAL, TOTAL / piece);
    file_put(file);
}

static void bench_random_read(struct file_fake *fake,
                              uint64_t ino,
                              uint8_t *bytes)
{
    struct file *file = open_file(fake, ino);
    uint64_t random = 1;
    struct lap lap;
    uint64_t n = 100000;
    size_t got;

    begin(&lap);
    for (uint64_t i = 0; i < n; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        check(file_read(file, (random >> 33) % (TOTAL / 4096) * 4096, 4096,
                        bytes, &got));
    }
    end(&lap, "random read, 4 KiB", n * 4096, n);
    file_put(file);
}

static void bench_small_files(struct file_fake *fake,
                              uint8_t *bytes,
                              size_t size)
{
    struct lap lap;
    uint64_t n = 3000;
    char what[64];

    (void)snprintf(what, sizeof what, "files of %zu KiB, closed", size >> 10);
    begin(&lap);
    for (uint64_t i = 0; i < n; i++) {
        struct file *file = open_file(fake, 100 + i);

        check(file_write(file, 0, size, bytes, false));
        check(file_flush(file));
        file_put(file);
    }
    end(&lap, what, n * size, n);
}

int main(int argc, char **argv)
{
    struct file_fake_config config = { .policy = &ec42,
                                       .cache_size = 256u << 20,
                                       .discard = true };
    uint8_t *bytes = aligned_alloc(4096, 1u << 20);
    struct file_fake *fake;

    assert(bytes != NULL);
    mem_tune();
    memset(bytes, 0x5a, 1u << 20);
    fake = file_fake_new(&config);
    if (argc > 1 && strcmp(argv[1], "small") == 0) {
        bench_small_files(fake, bytes, 64u << 10);
        bench_small_files(fake, bytes, 64u << 10);
        file_fake_free(fake);
        free(bytes);
        return EXIT_SUCCESS;
    }
    bench_write(fake, 1, 1u << 20, bytes);
    bench_write(fake, 2, 1u << 20, bytes);
    bench_write(fake, 3, 128u << 10, bytes);
    bench_write(fake, 4, 4096, bytes);
    bench_read(fake, 1, 1u << 20, bytes);
    bench_read(fake, 2, 128u << 10, bytes);
    bench_read(fake, 3, 4096, bytes);
    bench_random_write(fake, 5, bytes);
    bench_random_read(fake, 1, bytes);
    bench_small_files(fake, bytes, 4096);
    bench_small_files(fake, bytes, 64u << 10);
    file_fake_free(fake);
    free(bytes);
    return EXIT_SUCCESS;
}
