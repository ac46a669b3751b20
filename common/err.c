#include "common/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void errmsg_set(struct errmsg *msg, const char *format, ...)
{
    va_list args;

    if (msg == NULL) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(msg->text, sizeof msg->text, format, args);
    va_end(args);
}

const char *err_text(int error)
{
    int positive = error < 0 ? -error : error;
    const char *text = strerrordesc_np(positive);

    if (positive == EHOSTUNREACH) {
        return "Node cannot be reached"; /* that no route leads there is rare */
    }
    return text != NULL ? text : "unknown error";
}
