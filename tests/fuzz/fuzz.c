#include "tests/fuzz/fuzz.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

static uint64_t round_seed;
static uint64_t state;

/* ----------------------------------------------------------------- numbers */

/* splitmix64 */
uint64_t fuzz_draw(void)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

size_t fuzz_below(size_t n)
{
    return (size_t)(fuzz_draw() % n);
}

bool fuzz_one_in(size_t n)
{
    return fuzz_below(n) == 0;
}

uint8_t fuzz_byte(void)
{
    static const uint8_t bytes[] = { 0x00, 0x01, 0x7a, 0x7f, 0x80, 0xff,
                                     0x12, 0x22, 0x0a, 0xfa, 0x78, 0x7d };

    return fuzz_one_in(2) ? bytes[fuzz_below(sizeof bytes)]
                          : (uint8_t)fuzz_draw();
}

/* Powers of two and their neighbours, more often small than large. */
uint64_t fuzz_number(void)
{
    uint64_t power = (uint64_t)1 << fuzz_below(64);

    switch (fuzz_below(8)) {
    case 0:
        return fuzz_draw();
    case 1:
        return fuzz_draw() >> fuzz_below(64);
    case 2:
        return UINT64_MAX - fuzz_below(3);
    case 3:
        return power - 1;
    case 4:
        return power;
    case 5:
        return power + 1;
    default:
        return fuzz_below(20);
    }
}

/* --------------------------------------------------------------- mutations */

/* Bytes at..size - 1 come first. */
static void rotate(uint8_t *data, size_t size, size_t at)
{
    uint8_t *head = malloc(at + 1);

    if (head == NULL) {
        abort();
    }
    memcpy(head, data, at);
    memmove(data, data + at, size - at);
    memcpy(data + size - at, head, at);
    free(head);
}

static size_t insert(uint8_t *data, size_t size, size_t size_max, size_t at)
{
    if (size == size_max) {
        return size;
    }
    memmove(data + at + 1, data + at, size - at);
    data[at] = fuzz_byte();
    return size + 1;
}

size_t fuzz_mutate(uint8_t *data, size_t size, size_t size_max, size_t head)
{
    bool is_anywhere = head == 0 || head > size || fuzz_one_in(4);
    size_t at = size > 0 ? fuzz_below(is_anywhere ? size : head) : 0;
    size_t n;

    if (size == 0) {
        return insert(data, size, size_max, 0);
    }
    switch (fuzz_below(6)) {
    case 0:
        data[at] = fuzz_byte();
        return size;
    case 1:
        data[at] ^= (uint8_t)(1u << fuzz_below(8));
        return size;
    case 2: /* remove up to 9 bytes */
        n = 1 + fuzz_below(size - at < 9 ? size - at : 9);
        memmove(data + at, data + at + n, size - at - n);
        return size - n;
    case 3:
        return insert(data, size, size_max, at);
    case 4: /* cut */
        return at;
    default: /* of messages this makes other field orders */
        rotate(data, size, fuzz_below(size));
        return size;
    }
}

/* Put a word into the text, over `n_over` of its bytes. */
static void put_word(char *text, size_t text_size, const char *word)
{
    size_t size = strlen(text);
    size_t length = strlen(word);
    size_t at = fuzz_below(size + 1);
    size_t n_over = fuzz_one_in(2) ? fuzz_below(size - at + 1) : 0;

    if (n_over > length + 2) {
        n_over = length;
    }
    if (size - n_over + length >= text_size) {
        return;
    }
    memmove(text + at + length, text + at + n_over, size - at - n_over + 1);
    memcpy(text + at, word, length);
}

void fuzz_mutate_text(char *text,
                      size_t text_size,
                      const char *const *words,
                      size_t n_words)
{
    size_t size;

    if (n_words > 0 && fuzz_one_in(2)) {
        put_word(text, text_size, words[fuzz_below(n_words)]);
        return;
    }
    size = fuzz_mutate((uint8_t *)text, strlen(text), text_size - 1, 0);
    text[size] = '\0';
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\0') {
            text[i] = '0';
        }
    }
}

/* ------------------------------------------------------------------ rounds */

bool fuzz_fail(const char *format, ...)
{
    va_list args;

    (void)fputs("failed: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    return false;
}

static void print_seed(void)
{
    (void)fprintf(stderr, "failed: seed %" PRIu64 "\n", round_seed);
}

/* Not safe in a signal handler, but the process is lost anyway, and without the
 * seed so is the case. */
static void on_crash(int signal_number)
{
    print_seed();
    (void)signal(signal_number, SIG_DFL);
    (void)raise(signal_number);
}

int fuzz_main(int argc, char **argv, bool (*run_round)(void))
{
    static const int crashes[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL };
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    int64_t seconds = argc > 2 ? strtoll(argv[2], NULL, 10) : 2;
    int64_t end = clock_mono_ms() + seconds * 1000;
    uint64_t n_rounds = 0;

    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++) {
        (void)signal(crashes[i], on_crash);
    }
    while (n_rounds == 0 || clock_mono_ms() < end) {
        round_seed = seed + n_rounds;
        state = round_seed;
        if (!run_round()) {
            print_seed();
            return EXIT_FAILURE;
        }
        n_rounds++;
    }
    printf("%" PRIu64 " rounds\n", n_rounds);
    return EXIT_SUCCESS;
}
