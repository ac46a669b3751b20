#include "common/err.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

void err_make_plain(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f) {
            *text = '?';
        }
    }
}

void errmsg_set(struct errmsg *msg, const char *format, ...)
{
    va_list args;

    if (msg == NULL) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(msg->text, sizeof msg->text, format, args);
    va_end(args);
    err_make_plain(msg->text);
}

const char *err_text(int error)
{
    /* Peers send any number, even the one that has no positive. */
    int number = error >= 0 ? error : error == INT_MIN ? INT_MAX : -error;
    const char *text = strerrordesc_np(number);

    if (number == EHOSTUNREACH) {
        return "Node cannot be reached"; /* that no route leads there is rare */
    }
    return text != NULL ? text : "unknown error";
}
