#include "fusefs/sequence_window.h"

#include <assert.h>
#include <string.h>

void sequence_window_init(struct sequence_window *window)
{
    memset(window, 0, sizeof *window);
    window->next = 1;
}

bool sequence_window_is_full(const struct sequence_window *window)
{
    return window->n_in_flight == SEQUENCE_WINDOW_SIZE;
}

uint64_t sequence_window_begin(struct sequence_window *window)
{
    assert(!sequence_window_is_full(window));
    window->in_flight[window->n_in_flight++] = window->next;
    return window->next++;
}

void sequence_window_end(struct sequence_window *window, uint64_t sequence)
{
    size_t i = 0;

    while (i < window->n_in_flight && window->in_flight[i] != sequence) {
        i++;
    }
    assert(i < window->n_in_flight);
    window->n_in_flight--;
    memmove(&window->in_flight[i], &window->in_flight[i + 1],
            (window->n_in_flight - i) * sizeof window->in_flight[0]);
}

uint64_t sequence_window_acked(const struct sequence_window *window)
{
    return window->n_in_flight > 0 ? window->in_flight[0] - 1
                                   : window->next - 1;
}
