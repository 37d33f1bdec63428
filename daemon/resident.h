/*
 * resident.h - the daemon's own memory: what it does not use is given back.
 *
 * One binary is both daemon and worker, so the daemon, too, is linked with the worker's libraries (BLAS, FFmpeg and
 * what they need: more than a hundred). Their relocation touches pages that the daemon never looks at again.
 */
#ifndef DAEMON_RESIDENT_H
#define DAEMON_RESIDENT_H

/* Drops this process's view of clean pages of mapped files. They come back from the page cache when they are
 * touched: nothing changes but what counts as resident. */
void resident_trim(void);

#endif
