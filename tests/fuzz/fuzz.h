/* What the fuzz targets share: reproducible random numbers, mutations, and the
 * loop that runs rounds until the time is over.
 *
 * A target is called as `fuzz_x SEED SECONDS`. Each round has a seed of its
 * own, counted up from SEED; a failure, and a crash, too, prints that of its
 * round: pass it to repeat that round first. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Run rounds for the time that the arguments give, at least one. A round that
 * answers false has failed. Returns the exit status for main(). */
int fuzz_main(int argc, char **argv, bool (*run_round)(void));

/* The next random number of the round; one below n > 0; true once in n. */
uint64_t fuzz_draw(void);
size_t fuzz_below(size_t n);
bool fuzz_one_in(size_t n);

/* A random byte or number, often one at which parsers stumble. */
uint8_t fuzz_byte(void);
uint64_t fuzz_number(void);

/* Make one change to the `size` bytes: change, flip, remove, insert, cut, or
 * put the tail first. Most changes fall into the first `head` bytes, where
 * headers lie; 0: they fall anywhere. Returns the new size, which grows by one
 * at most and never above `size_max`. */
size_t fuzz_mutate(uint8_t *data, size_t size, size_t size_max, size_t head);

/* The same for text: it stays free of NUL bytes, and one of the `n_words` words
 * may be inserted or take the place of what is there. `text` has room for
 * `text_size` bytes. */
void fuzz_mutate_text(char *text,
                      size_t text_size,
                      const char *const *words,
                      size_t n_words);

/* Say why the round fails: "failed: ..." to stderr. Answers false. */
bool fuzz_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
