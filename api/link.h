/*
 * link.h - lists whose links are members of what is listed. Loop thread.
 */
#ifndef API_LINK_H
#define API_LINK_H

#include "base/macros.h"

/* A list's head is a link, too; it begins and ends with it. */
struct link {
    struct link *prev, *next;
};

static inline void link_init(struct link *head)
{
    head->prev = head;
    head->next = head;
}

/* At the end. */
static inline void link_add(struct link *head, struct link *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

/* Safe when it is in no list (zeroed). */
static inline void link_remove(struct link *l)
{
    if (l->prev) {
        l->prev->next = l->next;
        l->next->prev = l->prev;
        l->prev = NULL;
        l->next = NULL;
    }
}

#endif
